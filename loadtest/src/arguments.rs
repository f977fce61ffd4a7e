//! What the command lines of the scenarios have in common.

use std::path::PathBuf;

use clap::Args;

use crate::figures::Spec;
use crate::server::Server;
use crate::target::Target;
use crate::tokens::Tokens;

pub const EXIT_CODES: &str = "\
Exit codes: 0 measured, and every --assert holds; 1 an --assert does not hold; 2 it could not run, or failed before its end.";

/// Which relay that runs already, and what to do with the result.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The relay
    #[arg(long, default_value = "ws://127.0.0.1:4000")]
    pub url: String,
    #[command(flatten)]
    pub access: Access,
    #[command(flatten)]
    pub output: Output,
}

/// How a relay that runs already is read, and what its clients show it.
#[derive(Clone, Debug, Default, Args)]
pub struct Access {
    /// The relay's metrics; default: port 4001 of the same host
    #[arg(long, value_name = "URL")]
    pub metrics: Option<String>,
    /// Read processor time and memory of this process from /proc instead, for servers without /metrics
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Whom clients of a wss:// relay believe: its own certificate, or those of an authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The token of all connections; default: none, for a relay in development mode
    #[arg(long, value_name = "JWT")]
    pub token: Option<String>,
    /// Sign a token per connection with this HS256 key: sub load-N, its own topic only, valid for an hour
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_key_file: Option<PathBuf>,
}

/// What to do with the result.
#[derive(Clone, Debug, Default, Args)]
pub struct Output {
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Conditions on the result, such as 'reach>=0.999,p99<100ms' (>= <= < > ==; durations in us, ms, s)
    #[arg(long = "assert", value_name = "LIST", default_value = "", hide_default_value = true)]
    pub assertions: String,
}

/// Where a scenario takes place.
pub struct Site {
    pub target: Target,
    pub server: Server,
    pub tokens: Tokens,
}

impl Common {
    pub fn site(&self) -> anyhow::Result<Site> {
        self.access.site(&self.url)
    }

    pub fn tokens_label(&self) -> &'static str {
        self.access.tokens_label()
    }
}

impl Access {
    /// The relay at `url`.
    pub fn site(&self, url: &str) -> anyhow::Result<Site> {
        let target = Target::parse(url, self.tls_ca.as_deref())?;
        let metrics_url = self.metrics.clone().unwrap_or_else(|| target.default_metrics_url());
        let server = Server { metrics_url, pid: self.server_pid };
        let tokens = Tokens::new(self.token.as_deref(), self.token_key_file.as_deref())?;
        Ok(Site { target, server, tokens })
    }

    /// An error: something is said of a relay that runs already, and the scenario starts one.
    pub fn ensure_unset(&self) -> anyhow::Result<()> {
        let Self { metrics, server_pid, tls_ca, token, token_key_file } = self;
        let files = [tls_ca, token_key_file].into_iter().any(Option::is_some);
        anyhow::ensure!(
            metrics.is_none() && server_pid.is_none() && token.is_none() && !files,
            "--metrics, --server-pid, --tls-ca, --token and --token-key-file belong to a relay that runs already: --url"
        );
        Ok(())
    }

    /// As in the JSON's settings: which kind of tokens, not the tokens.
    pub fn tokens_label(&self) -> &'static str {
        match (&self.token, &self.token_key_file) {
            (Some(_), _) => "same",
            (None, Some(_)) => "signed",
            (None, None) => "none",
        }
    }
}

pub fn help(about: &str, specs: &[&Spec], example: &str) -> String {
    let figures: String = specs.iter().map(|spec| format!("  {:<28}{}\n", spec.name, spec.about)).collect();
    format!("{about}{figures}{example}\n{EXIT_CODES}")
}

pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 && number <= 1e6 => Ok(number),
        _ => Err("it must be a number above 0, at most 1,000,000".to_owned()),
    }
}

/// `room:lobby`: what the relay accepts, and JSON and queries need no escapes for.
pub fn topic(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match text.split_once(':') {
        Some(("game" | "room" | "doc", id)) if (1..=64).contains(&id.len()) && id.bytes().all(plain) => {
            Ok(text.to_owned())
        }
        _ => Err("it must be game:, room: or doc: and 1 to 64 letters, digits, '-', '_', '.'".to_owned()),
    }
}

/// The arguments of one command, as a test gives them.
#[cfg(test)]
pub fn parsed<A: Args>(line: &[&str]) -> A {
    let command = A::augment_args(clap::Command::new("test").no_binary_name(true));
    A::from_arg_matches(&command.try_get_matches_from(line).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_of_the_relay() {
        assert_eq!(topic("room:idle-"), Ok("room:idle-".to_owned()));
        for bad in ["room:", "lobby", "chat:x", "room:a b", "room:\"", &format!("room:{}", "x".repeat(65))] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }
}
