//! The command line: what the flags are, and what each command does.

mod certificate;
mod example;
mod health;
mod manuals;
mod store;
mod topics;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config;
use crate::config::error::ConfigError;
use crate::config::source::{Assignment, FILE_VARIABLE, Origin};
use crate::config::value::Value;
use crate::driver_choice::{self, Choice, DriverKind};
use crate::machine::Machine;
use crate::rim::Clock;
use crate::server::{self, Ended, ReadAgain};
use crate::wire::token::{self, Claims, TopicPattern};
use crate::{doctor, limits, logs};

/// Exit code of a run that failed.
const EXIT_FAILED: u8 = 1;
/// Exit code of a command line or configuration that is wrong (clap uses the same).
const EXIT_USAGE: u8 = 2;

/// A relay for multiplayer game sessions.
#[derive(Debug, Parser)]
#[command(name = "corelay", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay (what `corelay` alone does)
    Serve(ServeArguments),
    /// Mint a token for tests, with the key that the relay is configured with
    #[command(after_help = TOKEN_AFTER_HELP)]
    Token(TokenArguments),
    /// Check, export, import and compact the store of a relay that does not run, and erase a user from it
    #[command(after_help = store::AFTER_HELP)]
    Store(store::StoreArguments),
    /// Make a certificate for trying TLS
    #[command(after_help = certificate::AFTER_HELP)]
    Cert(certificate::CertificateArguments),
    /// Say whether and how well the relay can run on this machine
    #[command(after_help = DOCTOR_AFTER_HELP)]
    Doctor(ServeArguments),
    /// Ask a relay that runs here whether it is well
    #[command(after_help = health::AFTER_HELP)]
    Healthcheck(health::HealthArguments),
    /// Print completions for a shell
    #[command(after_help = "Example: corelay completions bash > /etc/bash_completion.d/corelay")]
    Completions(manuals::CompletionsArguments),
    /// Print the manual page, or write one for each command
    #[command(after_help = "Example: corelay man | man -l -")]
    Man(manuals::ManArguments),
}

const AFTER_HELP: &str = "\
Examples:
  corelay                                        development: 127.0.0.1:4000, everybody is a guest
  corelay --listen 0.0.0.0:4000 --jwt-key-file corelay.key
  corelay token --sub ann --topics 'game:*' --jwt-key-file corelay.key
  corelay cert --self-signed localhost           a certificate for trying TLS
  corelay doctor                                 what this machine allows
  corelay store check                            whether what is kept of rooms is whole
  corelay healthcheck                            whether the relay here is well, for containers

Configuration, later wins: built-in defaults, corelay.toml (or --config), environment, flags.
  Every key of corelay.toml is also a variable: rates.move_per_s is CORELAY_RATES_MOVE_PER_S,
  except the [[game]], [[room]], [[doc]], [[key]] and [[certificate]] tables, which only the file has. --listen is CORELAY_LISTEN, and so on.
  RUST_LOG=debug logs more.

  # corelay.toml
  listen = \"0.0.0.0:4000\"
  jwt_key_file = \"/etc/corelay/corelay.key\"
  [[game]]
  pattern = \"arena-*\"
  tick_hz = 30
  bounds = [-500, -500, 500, 500]
  max_speed = 12

Signals: SIGTERM or SIGINT drains (players are told, then closed; at most 30 s); a second one leaves at once.
  SIGHUP reads the keys of the tokens and the certificates again.

Exit codes: 0 ended as told, 1 could not start or go on, 2 wrong command line or configuration,
  130 and 143 left at once after a second SIGINT or SIGTERM.";

const DOCTOR_AFTER_HELP: &str = "\
Give it what the relay is started with: flags, variables, configuration file. Examples:
  corelay doctor --listen 0.0.0.0:4000 --jwt-key-file corelay.key
  corelay doctor --config /etc/corelay/corelay.toml

It tries the addresses, keys, certificates and the store as well, and leaves nothing behind.
While a relay runs here, its addresses are taken.

Exit codes: 0 the relay can run here, 1 it cannot (the lines with FAIL say why), 2 wrong command line or configuration.";

const TOKEN_AFTER_HELP: &str = "\
The token alone goes to standard output, more examples of its use to standard error. Example:
  TOKEN=$(corelay token --sub ann --topics 'game:*' --jwt-key-file corelay.key)
  ws://127.0.0.1:4000/play/arena-1?token=$TOKEN

With RS256, ES256 or EdDSA the relay has the public key; give the private one here (and --kid, if it has a name).";

/// The flags of the relay. Their values are checked where the values of the file are: in the table of keys.
#[derive(Debug, Default, Args)]
struct ServeArguments {
    /// Where players connect [default: 127.0.0.1:4000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where players connect by TLS, such as 0.0.0.0:443; needs a [[certificate]] in the file [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    listen_tls: Option<String>,
    /// Where the admin pages are; beyond loopback they need a token (admin_token_file) [default: 127.0.0.1:4001]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Threads that carry connections, each with connections and games of its own; more than CPUs is allowed [default: one per CPU]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Connections of the whole relay, divided evenly over the shards [default: as many as RLIMIT_NOFILE allows]
    #[arg(long, value_name = "N")]
    connections_max: Option<String>,
    /// The directory of the store, which keeps what is said in rooms [default: ./corelay-data]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// Keep what is said in memory only: it ends with the process
    #[arg(long)]
    ephemeral: bool,
    /// Listen on public addresses without a key
    #[arg(long)]
    insecure: bool,
    /// Serve /echo, for WebSocket conformance suites
    #[arg(long)]
    enable_echo: bool,
    /// auto (io_uring, or epoll where that is refused), io_uring, epoll [default: auto]
    #[arg(long, value_name = "NAME")]
    driver: Option<String>,
    /// auto (pretty on a terminal, JSON otherwise), pretty, json [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    #[command(flatten)]
    shared: SharedArguments,
}

/// The flags that all commands know but those of `store`, which has nothing to do with tokens.
#[derive(Debug, Default, Args)]
struct SharedArguments {
    /// The configuration file; also the variable CORELAY_CONFIG [default: corelay.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Key of the tokens; without one everybody is a guest (development mode)
    #[arg(long, value_name = "FILE")]
    jwt_key_file: Option<String>,
    /// Algorithm of the tokens: HS256, RS256, ES256, EdDSA [default: HS256]
    #[arg(long, value_name = "NAME")]
    jwt_algorithm: Option<String>,
}

#[derive(Debug, Args)]
struct TokenArguments {
    /// The user's id
    #[arg(long, value_name = "ID")]
    sub: String,
    /// What may be joined: patterns, comma separated or repeated; a * stands for any characters
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',', default_value = "game:*")]
    topics: Vec<String>,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// Let the user set other players' positions in its games
    #[arg(long)]
    host: bool,
    /// Let the user delete others' messages in its rooms, mute and ban
    #[arg(long)]
    moderator: bool,
    /// Which key signs, when there are several
    #[arg(long, value_name = "KID")]
    kid: Option<String>,
    /// How long the token is valid: 90s, 15m, 1h, 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_seconds)]
    ttl: u64,
    #[command(flatten)]
    shared: SharedArguments,
}

/// Reads the command line. One that is wrong, or asks for help, ends the process here.
pub fn parse() -> Cli {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    Cli::try_parse_from(&arguments).unwrap_or_else(|error| with_hint(error, &arguments).exit())
}

/// Adds to the error which flag of the relay an unknown one was probably meant to be.
fn with_hint(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    // The flags of these commands set no keys, or hardly any.
    let others = ["token", "store", "cert", "healthcheck", "completions", "man"];
    let serves = !arguments.iter().any(|argument| others.iter().any(|other| argument == other));
    if let (ErrorKind::UnknownArgument, true) = (error.kind(), serves)
        && let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && let Some(hint) = config::keys::hint_for_flag(flag, &flag_names())
    {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// The flags that set keys, without their dashes.
fn flag_names() -> Vec<String> {
    let command = Cli::command();
    command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(arguments)) => serve(arguments),
        Some(Command::Token(arguments)) => mint_token(arguments),
        Some(Command::Store(arguments)) => store::run(arguments),
        Some(Command::Cert(arguments)) => certificate::run(&arguments),
        Some(Command::Doctor(arguments)) => examine(arguments),
        Some(Command::Healthcheck(arguments)) => health::run(arguments),
        Some(Command::Completions(arguments)) => manuals::completions(&arguments, Cli::command()),
        Some(Command::Man(arguments)) => manuals::man(&arguments, Cli::command()),
    };
    done.unwrap_or_else(|failure| {
        failure.print();
        ExitCode::from(failure.code)
    })
}

fn serve(arguments: ServeArguments) -> Result<ExitCode, Failure> {
    let (file, flags) = (config_file(arguments.shared.config.clone()), arguments.assignments());
    let loaded = config::load(file.as_deref(), environment(), flags.clone())?;
    let machine = Machine::prepare();
    let log_format = loaded.draft.log_format;
    let chosen = driver_choice::choose(
        loaded.draft.driver,
        loaded.draft.capacity_wanted().shards_at_least(machine.resources()),
    );
    let kind = chosen.as_ref().map_or(DriverKind::IoUring, Choice::kind);
    let config = loaded.resolve(machine.resources(), kind)?;

    let _written_when_dropped = logs::start(log_format);
    if let Some(file) = &config.file {
        tracing::info!(file = %file.display(), "configuration read");
    }
    let of_driver = chosen.as_ref().ok().and_then(Choice::warning);
    for warning in of_driver.iter().chain(&config.warnings) {
        tracing::warn!("{warning}");
    }
    if config.settings.upgrade.development {
        tracing::warn!("development mode: no key is configured, everybody is a guest and may join any game");
    }
    // From here on failures go to the log, in its format.
    let shards = config.settings.placement.shards;
    let run =
        |choice: Choice| server::run(config, &machine, &choice.for_shards(shards)?, read_again(file, flags));
    Ok(match chosen.map_err(anyhow::Error::from).and_then(run) {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted(signal)) => ExitCode::from(signal.exit_code()),
        Err(error) => {
            tracing::error!("{}", lines(&error).join(": "));
            ExitCode::from(EXIT_FAILED)
        }
    })
}

/// What is in the file, in the variables and in what they name, whenever it is asked for.
fn read_again(file: Option<PathBuf>, flags: Vec<Assignment>) -> ReadAgain {
    let load = move || config::load(file.as_deref(), environment(), flags.clone());
    let again = load.clone();
    ReadAgain {
        keys: Box::new(move || with_warnings(|warnings| load()?.verifier(warnings))),
        certificates: Box::new(move || with_warnings(|warnings| again()?.certificates(warnings))),
    }
}

/// What `read` returns, after its warnings are logged.
fn with_warnings<T>(read: impl Fn(&mut Vec<String>) -> Result<T, ConfigError>) -> anyhow::Result<T> {
    let mut warnings = Vec::new();
    let found = read(&mut warnings)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(found)
}

fn examine(arguments: ServeArguments) -> Result<ExitCode, Failure> {
    let report = doctor::examine(&Machine::prepare(), load(arguments)?);
    write!(io::stdout(), "{report}").context("cannot write the report")?;
    Ok(if report.can_run() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn mint_token(arguments: TokenArguments) -> Result<ExitCode, Failure> {
    let TokenArguments { sub, topics, name, host, moderator, kid, ttl, shared } = arguments;
    let (file, key_file) = (config_file(shared.config.clone()), shared.jwt_key_file.clone());
    let loaded = config::load(file.as_deref(), environment(), shared.assignments())?;
    let mut warnings = Vec::new();
    let key = loaded.signing_key(kid.as_deref(), key_file.as_deref().map(Path::new), &mut warnings)?;

    check_length("--sub", &sub, 1, limits::USER_ID_BYTES_MAX)?;
    check_length("--name", name.as_deref().unwrap_or("-"), 1, limits::NAME_BYTES_MAX)?;
    let topics = topics::patterns(&topics).map_err(Failure::usage)?;
    let claims = Claims {
        user: sub.into(),
        expires_at_s: Clock::start().now().unix_s() + ttl,
        name: name.map(Into::into),
        topics: topics.iter().map(|pattern| TopicPattern::new(pattern.as_str())).collect(),
        host,
        moderator,
    };
    let token = token::sign_as(key.kid.as_deref(), key.algorithm, &key.bytes, &claims)
        .map_err(|source| ConfigError::KeyUnusable { place: key.place, source })?;
    writeln!(io::stdout(), "{token}").context("cannot write the token")?;
    // Whoever mints tokens may perhaps not read the certificates, which are only looked at for a name.
    let tls = loaded.certificates(&mut Vec::new()).ok().flatten();
    let secure = loaded.draft.listen_tls.map(|at| server::secure_url(at, tls.as_deref()));
    let examples = example::examples(loaded.draft.listen, secure, &token, &claims.topics);
    // Standard error may be closed: the token is minted nevertheless.
    let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let _ = write!(io::stderr(), "{warnings}valid for {ttl} s, for {}\n{examples}", topics.join(" and "));
    Ok(ExitCode::SUCCESS)
}

fn load(arguments: ServeArguments) -> Result<config::Loaded, ConfigError> {
    let file = config_file(arguments.shared.config.clone());
    config::load(file.as_deref(), environment(), arguments.assignments())
}

/// Variables that are not UTF-8 can only be wrong values; they are read with replacement characters and refused by their key.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

impl ServeArguments {
    fn assignments(self) -> Vec<Assignment> {
        let switch = |on: bool| on.then(|| "true".to_owned());
        let own = [
            ("listen", self.listen),
            ("listen_tls", self.listen_tls),
            ("admin", self.admin),
            ("shards", self.shards),
            ("connections_max", self.connections_max),
            ("data_dir", self.data_dir),
            ("ephemeral", switch(self.ephemeral)),
            ("insecure", switch(self.insecure)),
            ("enable_echo", switch(self.enable_echo)),
            ("driver", self.driver),
            ("log_format", self.log_format),
        ];
        own.into_iter().filter_map(flag).chain(self.shared.assignments()).collect()
    }
}

/// The configuration file that was named, by the flag or else the variable. An empty one counts as not set, as everywhere.
fn config_file(flag: Option<PathBuf>) -> Option<PathBuf> {
    let variable = || std::env::var_os(FILE_VARIABLE).filter(|file| !file.is_empty());
    flag.or_else(|| variable().map(PathBuf::from))
}

impl SharedArguments {
    fn assignments(self) -> Vec<Assignment> {
        let own = [("jwt_key_file", self.jwt_key_file), ("jwt_algorithm", self.jwt_algorithm)];
        own.into_iter().filter_map(flag).collect()
    }
}

fn flag((key, value): (&str, Option<String>)) -> Option<Assignment> {
    let origin = Origin::Flag(format!("--{}", key.replace('_', "-")));
    Some(Assignment { key: key.into(), value: Value::Untyped(value?), origin })
}

/// `90`, `90s`, `15m`, `1h`, `7d` in seconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    let (number, seconds) = unit.unwrap_or((text, 1));
    let parsed = number.parse::<u32>().ok().filter(|number| *number > 0);
    let expected = || "expected a number with a unit: 90s, 15m, 1h, 7d".to_owned();
    parsed.map(|number| u64::from(number) * seconds).ok_or_else(expected)
}

fn check_length(flag: &str, value: &str, min: usize, max: usize) -> Result<(), Failure> {
    if (min..=max).contains(&value.len()) {
        return Ok(());
    }
    Err(Failure::usage(format!("{flag} has {} bytes; it must have {min} to {max}", value.len())))
}

/// Why a command ended early.
struct Failure {
    code: u8,
    error: anyhow::Error,
    remedy: Option<String>,
}

impl Failure {
    /// The command line is wrong.
    fn usage(text: String) -> Self {
        Self { code: EXIT_USAGE, error: anyhow::Error::msg(text), remedy: None }
    }

    /// One line for what is wrong, one for each cause, one for what to do.
    fn print(&self) {
        let mut text = format!("error: {}\n", lines(&self.error).join("\n  cause: "));
        if let Some(remedy) = &self.remedy {
            text += &format!("  try: {remedy}\n");
        }
        // Without a standard error there is only the exit code left.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// What is wrong, and then each cause that the line before it does not tell already.
fn lines(error: &anyhow::Error) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if lines.last().is_none_or(|line| !line.contains(&cause)) {
            lines.push(cause);
        }
    }
    lines
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { code: EXIT_USAGE, remedy: error.remedy(), error: error.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: EXIT_FAILED, error, remedy: None }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::draft::Draft;
    use crate::config::keys;
    use crate::config::secrets::Place;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_seconds("90"), Ok(90));
        assert_eq!(parse_seconds("15m"), Ok(900));
        assert_eq!(parse_seconds("7d"), Ok(604_800));
        for wrong in ["", "h", "0s", "-1s", "1w", "1.5h"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no file").context("cannot read a (no file)").context("cannot start");
        assert_eq!(lines(&error), ["cannot start", "cannot read a (no file)"]);
    }

    /// Assigns what a command line sets, as `serve` does.
    fn accept(arguments: &[&str]) {
        let cli =
            Cli::try_parse_from([&["corelay"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
        for assignment in cli.serve.assignments() {
            keys::assign(&mut Draft::default(), &assignment)
                .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        }
    }

    #[test]
    fn what_errors_advise_is_accepted() {
        let not_found = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let address = "0.0.0.0:4000".parse().unwrap();
        let crowd = |shards_needed| ConfigError::TooManyConnections {
            connections_max: 50_000,
            shards: 2,
            per_shard: 31_250,
            reserve: 64,
            needed: 31_314,
            available: 20_000,
            shards_needed,
        };
        let memory = |available| ConfigError::TooLittleMemory {
            connections_max: 9,
            user: 320,
            kernel: 4_200,
            needed: 40_680,
            available,
        };
        let errors = [
            ConfigError::FileUnreadable { path: "corelay.toml".into(), source: not_found() },
            ConfigError::PublicWithoutKey { listen: address },
            ConfigError::PublicAdmin { admin: address },
            ConfigError::NoKey,
            ConfigError::KeyUnreadable { path: "corelay.key".into(), source: not_found() },
            ConfigError::AdminTokenUnreadable { path: "admin.token".into(), source: not_found() },
            ConfigError::AdminTokenUnusable { place: Place::File("admin.token".into()), bytes: 5 },
            ConfigError::TooFewDescriptors { available: 60, needed: 65 },
            crowd(Some(4)),
            crowd(None),
            memory(10_000),
            memory(1_000),
        ];
        let command = Cli::command();
        let takes_value = |flag: &str| {
            let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
            argument.map(|argument| argument.get_action().takes_values())
        };
        let mut accepted = 0;
        for error in errors {
            let remedy = error.remedy().expect("these have one");
            let words: Vec<&str> = remedy.split([' ', '`', ';', ',', '(', ')']).collect();
            for (word, next) in words.iter().zip(words.iter().skip(1)) {
                if let Some((variable, value)) = word.split_once('=').filter(|_| word.starts_with("CORELAY_"))
                {
                    let key = keys::key_of_variable(&variable["CORELAY_".len()..]);
                    assert!(key.is_some() && !value.is_empty(), "{remedy}");
                    accepted += 1;
                }
                match word.strip_prefix("--").and_then(takes_value) {
                    // "name another file with --config; …" names no value.
                    Some(true) if !next.is_empty() => accept(&[word, next]),
                    Some(false) => accept(&[word]),
                    Some(true) | None => continue,
                }
                accepted += 1;
            }
        }
        assert_eq!(accepted, 7, "pieces of advice that can be pasted");
    }

    #[test]
    fn every_flag_is_a_key() {
        let known: Vec<&str> = keys::names().collect();
        for flag in ServeArguments::augment_args(clap::Command::new("corelay")).get_arguments() {
            let key = flag.get_id().as_str();
            assert!(key == "config" || known.contains(&key), "--{key} sets no key");
            let told = keys::document().contains(&format!("Flag `--{}`", key.replace('_', "-")));
            assert!(key == "config" || told, "the document of the keys does not name --{key}");
        }
    }
}
