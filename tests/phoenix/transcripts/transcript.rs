//! A recorded conversation, as `tests/phoenix_clients/transcript.mjs` writes it.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// One file of `tests/phoenix_clients/transcripts`.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Name of the file, without its ending.
    pub name: String,
    pub mode: Mode,
    /// Lines with their numbers in the file, without the first one, which has the mode.
    pub lines: Vec<(usize, Line)>,
}

/// How the relay was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Development mode.
    Open,
    /// With the secret of `tests/phoenix_clients/token.mjs`.
    Keyed,
}

/// See the README.md of the transcripts.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "dir")]
pub enum Line {
    #[serde(rename = "relay")]
    Relay { mode: Mode },
    #[serde(rename = "open")]
    Open {
        socket: usize,
        path: String,
        #[serde(default)]
        protocols: Vec<String>,
    },
    #[serde(rename = ">")]
    Said {
        socket: usize,
        #[serde(flatten)]
        content: Content,
    },
    #[serde(rename = "<")]
    Told {
        socket: usize,
        #[serde(flatten)]
        content: Content,
    },
    #[serde(rename = "close")]
    Close { socket: usize, code: u16, reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    Text(String),
    /// Hexadecimal.
    Binary(String),
}

impl Transcript {
    /// All transcripts there are, by name.
    pub fn read_all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/phoenix_clients/transcripts");
        let entries = fs::read_dir(&folder).expect("the folder of transcripts");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
        files.sort();
        files.iter().map(|file| Self::read(file)).collect()
    }

    fn read(file: &Path) -> Self {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(file).expect("a readable transcript");
        let line = |(index, line): (usize, &str)| {
            let line = serde_json::from_str(line);
            (index + 1, line.unwrap_or_else(|error| panic!("{name}.jsonl:{}: {error}", index + 1)))
        };
        let mut lines: Vec<(usize, Line)> = text.lines().enumerate().map(line).collect();
        let (_, Line::Relay { mode }) = lines.remove(0) else {
            panic!("{name}.jsonl:1 does not say the mode")
        };
        Self { name, mode, lines }
    }

    /// Where the messages of the relay stand in `lines`.
    pub fn told(&self) -> Vec<usize> {
        let is_told = |index: &usize| matches!(self.lines[*index].1, Line::Told { .. });
        (0..self.lines.len()).filter(is_told).collect()
    }

    /// How many connections there are.
    pub fn sockets(&self) -> usize {
        self.lines.iter().filter(|(_, line)| matches!(line, Line::Open { .. })).count()
    }
}

impl Line {
    pub fn socket(&self) -> Option<usize> {
        match self {
            Self::Relay { .. } => None,
            Self::Open { socket, .. }
            | Self::Said { socket, .. }
            | Self::Told { socket, .. }
            | Self::Close { socket, .. } => Some(*socket),
        }
    }
}
