//! Why something ended or was refused: closed sets whose `label()` is the word on the wire and in `/metrics`.

/// Defines an enum with `ALL`, `COUNT`, `index()` and `label()`, so that a counter per variant is an array.
macro_rules! labelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every variant, in order of `index()`.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            /// How many variants there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Position in `ALL`.
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The word on the wire and in `/metrics`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

labelled! {
    /// Why the relay ends a connection that was open. The labels are the reason words of the close frames.
    CloseReason {
        /// Answer to the client's own close.
        Bye = "bye",
        /// Silent for too long.
        Idle = "idle",
        /// Removed by an operator.
        Kicked = "kicked",
        /// A newer connection took the seat.
        Replaced = "replaced",
        /// RFC 6455 violated.
        Protocol = "protocol",
        /// Too many malformed records.
        Malformed = "malformed",
        /// Text that is not UTF-8.
        Utf8 = "utf8",
        /// Message over the limit.
        TooBig = "too_big",
        /// Token missing or without the grant.
        Unauthorized = "unauthorized",
        /// Token past its `exp`.
        Expired = "expired",
        /// Far over a rate limit.
        Abuse = "abuse",
        /// The relay shuts down.
        Drain = "drain",
        /// The client does not read.
        Slow = "slow",
        /// The relay has no room for it.
        Overload = "overload",
        /// The shard has panicked, and the process ends.
        Failed = "failed",
        /// The client went without a close frame (reset, or end of stream). Never sent.
        Lost = "lost",
    }
}

impl CloseReason {
    /// Status code of the close frame (RFC 6455 section 7.4); 1006 for `Lost`, which is never sent.
    pub const fn code(self) -> u16 {
        match self {
            Self::Bye => 1000,
            Self::Idle | Self::Kicked | Self::Replaced => 1001,
            Self::Protocol => 1002,
            Self::Malformed => 1003,
            Self::Lost => 1006,
            Self::Utf8 => 1007,
            Self::Unauthorized | Self::Expired | Self::Abuse => 1008,
            Self::TooBig => 1009,
            Self::Failed => 1011,
            Self::Drain => 1012,
            Self::Slow | Self::Overload => 1013,
        }
    }
}

labelled! {
    /// Why an upgrade was refused, before any WebSocket frame.
    RefusalReason {
        /// 400: the request head is not HTTP/1.1 as RFC 9112 and RFC 6455 want it.
        BadRequest = "bad_request",
        /// 403: `Origin` is not allowed.
        Origin = "origin",
        /// 403: the token is missing, forged, or without a grant for the game.
        Token = "token",
        /// 403: `vsn` names a serializer that is not spoken.
        Version = "vsn",
        /// 503: too many forged tokens came lately.
        TokenRate = "token_rate",
        /// 404: unknown path.
        NotFound = "not_found",
        /// 405: not GET.
        Method = "method",
        /// 408: the request head took too long.
        Timeout = "timeout",
        /// 426: no upgrade asked for, or another WebSocket version.
        UpgradeRequired = "upgrade_required",
        /// 429: too many connections from this address.
        AddressLimit = "address_limit",
        /// 431: request head too large.
        HeadTooLarge = "head_too_large",
        /// 503: every connection, or every seat of the game, is taken, or its shard could take no more in.
        Full = "full",
        /// 503: shutting down.
        Draining = "draining",
    }
}

impl RefusalReason {
    /// HTTP status code.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Origin | Self::Token | Self::Version => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::UpgradeRequired => 426,
            Self::AddressLimit => 429,
            Self::HeadTooLarge => 431,
            Self::Full | Self::Draining | Self::TokenRate => 503,
        }
    }
}

/// What a moderator takes from a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Restriction {
    /// To say something in the room.
    Mute,
    /// To be in the room.
    Ban,
}

impl Restriction {
    /// The event that imposes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mute => "mute",
            Self::Ban => "ban",
        }
    }
}

labelled! {
    /// What a rate limit counts. These are the classes of the native RateLimited record (PROTOCOL 3).
    #[allow(missing_docs, reason = "the names are those of the records")]
    RateClass {
        /// Move and HostMoves.
        Move = "move",
        /// PutObject and RemoveObject.
        Object = "object",
        Event = "event",
        Ping = "ping",
        Bytes = "bytes",
    }
}

labelled! {
    /// What a rate limit of pushes counts, beyond the classes that they share with records.
    PushRateClass {
        /// `presence_update`.
        Presence = "presence",
        /// `history`, `operations` and `reconnect`, which are answered with as much as one message holds.
        Page = "page",
        /// `operation` on a document.
        Operation = "operation",
        /// `cursor` in a document.
        Cursor = "cursor",
    }
}

labelled! {
    /// Why a `phx_join` was answered with `error`.
    JoinRefusal {
        /// No such topic.
        Unmatched = "unmatched_topic",
        /// The connection has joined as many topics as it may.
        TooManyChannels = "too_many_channels",
        /// No token grants the topic.
        Unauthorized = "unauthorized",
        /// Over the rate of joins.
        RateLimited = "rate_limited",
        /// The payload is not what it should be.
        Malformed = "malformed",
        /// The topic takes no further member.
        Full = "full",
        /// There is no such document, and it may not begin by being joined.
        NotFound = "not_found",
        /// A moderator has banned the user from the room.
        Banned = "banned",
        /// The shard of the topic cannot be reached.
        Overload = "overload",
    }
}

labelled! {
    /// Code of a native Error record, from 1 (PROTOCOL 3).
    ErrorCode {
        /// Wrong length, unknown kind, non-finite number.
        Malformed = "malformed",
        /// The token does not allow it.
        Unauthorized = "unauthorized",
        /// Another player's object.
        NotYours = "not_yours",
        /// A bound is reached.
        LimitReached = "limit_reached",
        /// No such player.
        NoSuchPlayer = "no_such_player",
    }
}

labelled! {
    /// Reason of a native Correction record, from 1 (PROTOCOL 3).
    CorrectionReason {
        /// Outside the game's bounds.
        OutOfBounds = "out_of_bounds",
        /// Faster than the game's `max_speed` allows.
        TooFast = "too_fast",
    }
}

labelled! {
    /// Why a player left a game, as in the native Roster record, from 0 (PROTOCOL 3).
    LeaveReason {
        /// By its own close.
        Left = "left",
        /// Its seat was held, and it did not come back in time.
        TimedOut = "timed_out",
        /// The relay closed its connection.
        Kicked = "kicked",
        /// Another connection took its place.
        Replaced = "replaced",
    }
}

impl LeaveReason {
    /// The word of `user_disconnected` (PROTOCOL 4).
    pub const fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::TimedOut => "timeout",
            Self::Kicked => "kicked",
            Self::Replaced => "replaced",
        }
    }
}
