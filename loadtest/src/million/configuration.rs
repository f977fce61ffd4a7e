//! How the relay is configured that is started for the run.

/// Silence after which the relay pings: at the default of 5 s a million silent players cost 200,000 pings a second.
pub const PING_AFTER_MS: u32 = 60_000;
/// Silence after which it closes.
pub const CLOSE_AFTER_MS: u32 = 180_000;
/// Ticks of every game.
pub const TICK_HZ: u32 = 5;

pub fn configuration() -> String {
    format!(
        "[liveness]\nping_after_ms = {PING_AFTER_MS}\nclose_after_ms = {CLOSE_AFTER_MS}\n\n\
         [[game]]\npattern = \"*\"\ntick_hz = {TICK_HZ}\n"
    )
}
