//! One topic: its members and its state. A room decides and encodes; who is connected where is the shard's business.

pub mod audience;
pub mod chat;
mod chat_queue;
mod chat_record;
mod chat_stream;
mod chat_typing;
pub mod frames;
pub mod game;
pub mod game_channel_frames;
pub mod game_channels;
pub mod game_events;
pub mod game_pushes;
pub mod game_seats;
mod game_topic;
pub mod game_update;
pub mod history;
pub mod hosted;
pub mod objects;
pub mod presence;
pub mod recovery;
pub mod request;
pub mod roster;
pub mod seats;
pub mod speed;
pub mod stored;
mod telling;
pub mod tick;
