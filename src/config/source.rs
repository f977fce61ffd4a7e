//! Where values come from: a TOML file, the environment, flags. Each becomes assignments that remember where they stood.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::draft::Draft;
use super::error::ConfigError;
use super::keys;
use super::value::Value;

/// Prefix of the variables that set keys: `rates.move_per_s` is `CORELAY_RATES_MOVE_PER_S`.
pub const ENVIRONMENT_PREFIX: &str = "CORELAY_";
/// Variables with the prefix that set no key.
const OTHER_VARIABLES: &[&str] = &[FILE_VARIABLE];
/// Names the configuration file, as `--config` does.
pub const FILE_VARIABLE: &str = "CORELAY_CONFIG";

/// One value for one key.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// With its table: `listen`, `rates.move_per_s`.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Where it stood.
    pub origin: Origin,
}

/// Where an assignment stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the line in it, from 1.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// Applies a whole file, its arrays of tables included.
pub fn assign_file(draft: &mut Draft, path: &Path, text: &str) -> Result<(), ConfigError> {
    let origin = |position: usize| Origin::File(path.into(), line_of(text, position));
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: origin(error.span().map_or(0, |span| span.start)),
        message: error.message().into(),
    })?;
    for (key, value) in in_order(table.get_ref()) {
        let (name, value) = (key.get_ref().as_ref(), value.get_ref());
        if let Some(add) = keys::table_array(name)
            && let Some(tables) = value.as_array()
            && tables.iter().all(|table| table.get_ref().is_table())
        {
            for table in tables {
                let assignments = table.get_ref().as_table().map(|table| read_table(name, table, origin));
                add(draft, &assignments.unwrap_or_default(), origin(table.span().start))?;
            }
        } else if let Some(section) = value.as_table().filter(|_| keys::is_section(name)) {
            for assignment in read_table(name, section, origin) {
                keys::assign(draft, &assignment)?;
            }
        } else {
            let origin = origin(key.span().start);
            keys::assign(draft, &Assignment { key: name.into(), value: read_value(value), origin })?;
        }
    }
    Ok(())
}

/// The assignments of the environment, and a warning for each variable that has the prefix and names no key. It is only a
/// warning because orchestrators set such variables by themselves (`CORELAY_SERVICE_HOST` for a service named corelay). An
/// empty variable counts as not set.
pub fn read_environment(variables: impl Iterator<Item = (String, String)>) -> (Vec<Assignment>, Vec<String>) {
    let mut assignments = Vec::new();
    let mut unknown = Vec::new();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        if value.is_empty() || OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        match keys::key_of_variable(name) {
            Some(key) => assignments.push(Assignment {
                key: key.into(),
                value: Value::Untyped(value),
                origin: Origin::Environment(variable),
            }),
            None => {
                let hint = keys::hint_for_variable(name);
                unknown.push(format!("environment variable {variable} names no key and is ignored{hint}"));
            }
        }
    }
    (assignments, unknown)
}

/// The entries of a table as they stand in the file (the parser sorts them by name), so that the first error is the topmost.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a toml::Spanned<toml::de::DeString<'i>>, &'a toml::Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn read_table(name: &str, table: &DeTable<'_>, origin: impl Fn(usize) -> Origin) -> Vec<Assignment> {
    let entries = in_order(table).into_iter();
    let assignments = entries.map(|(key, value)| Assignment {
        key: format!("{name}.{}", key.get_ref()),
        value: read_value(value.get_ref()),
        origin: origin(key.span().start),
    });
    assignments.collect()
}

fn read_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Other(integer.to_string()),
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(float) => Value::Float(float),
            Err(_) => Value::Other(float.to_string()),
        },
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(date) => Value::Other(format!("the date {date}")),
        DeValue::Array(values) => {
            Value::List(values.iter().map(|value| read_value(value.get_ref())).collect())
        }
        DeValue::Table(table) => {
            let entries = in_order(table).into_iter();
            let entries =
                entries.map(|(key, value)| (key.get_ref().to_string(), read_value(value.get_ref())));
            Value::Table(entries.collect())
        }
    }
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}
