//! Phoenix Channels: messages of serializer V2 (text and binary) and V1 (text).
