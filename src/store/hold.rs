//! Who has the data directory: a lock on a file in it, which says who that is. The kernel frees the lock with the process.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::error::StoreError;

/// The file: `{process}`, or `{process} draining {guests}`.
const NAME: &str = "corelay.pid";

/// How often a directory in use is tried again.
const IN_USE_RETRIES: u32 = 10;
/// Pause before a directory in use is tried again.
const IN_USE_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The data directory belongs to this process, as long as this is there.
pub struct Hold {
    file: fs::File,
}

/// A relay that has the data directory and will give it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Number of the process.
    pub process: u32,
    /// Numbers of guests up to this one are taken.
    pub guests: u64,
}

/// What has come of a try to have the directory.
pub enum Taken {
    /// This process has it.
    Ours(Hold),
    /// A relay that is draining has it.
    Draining(Draining),
}

impl Hold {
    /// Takes the directory. The relay that has it may be about to say that it drains: it is asked a few times.
    pub fn take_soon(directory: &Path) -> Result<Taken, StoreError> {
        for _ in 0..IN_USE_RETRIES {
            match Self::take(directory) {
                Err(StoreError::InUse { .. }) => thread::sleep(IN_USE_RETRY_INTERVAL),
                taken => return taken,
            }
        }
        Self::take(directory)
    }

    /// Takes the directory, if nobody has it.
    pub fn take(directory: &Path) -> Result<Taken, StoreError> {
        let path = directory.join(NAME);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let not_writable = |source| StoreError::NotWritable { path: path.clone(), source };
        let mut file = options.open(&path).map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                // What cannot be read says nothing.
                let _ = file.read_to_string(&mut text);
                let (process, draining) = read(&text);
                if let Some(draining) = draining {
                    return Ok(Taken::Draining(draining));
                }
                let holder = process.map(|process| format!(" (process {process})")).unwrap_or_default();
                return Err(StoreError::InUse { path: directory.into(), holder });
            }
            Err(fs::TryLockError::Error(source)) => return Err(not_writable(source)),
        }
        let write = |file: &mut fs::File| {
            file.set_len(0)?;
            file.write_all(std::process::id().to_string().as_bytes())
        };
        write(&mut file).map_err(not_writable)?;
        Ok(Taken::Ours(Self { file }))
    }

    /// Whoever finds the directory locked from now on may wait for it.
    pub fn tell_draining(&mut self, guests: u64) -> io::Result<()> {
        // In one piece: whoever reads it meanwhile reads the one or the other.
        self.file.write_all_at(format!("{} draining {guests}\n", std::process::id()).as_bytes(), 0)
    }
}

fn read(text: &str) -> (Option<u32>, Option<Draining>) {
    let mut words = text.split_ascii_whitespace();
    let process = words.next().and_then(|word| word.parse().ok());
    let is_draining = words.next() == Some("draining");
    let guests = words.next().and_then(|word| word.parse().ok()).filter(|_| is_draining);
    (process, process.zip(guests).map(|(process, guests)| Draining { process, guests }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_is_read() {
        let draining = Draining { process: 7, guests: 200_000 };
        assert_eq!(read("7"), (Some(7), None));
        assert_eq!(read("7 draining 200000\n"), (Some(7), Some(draining)));
        for torn in ["7 ", "7 drain", "7 draining", "7 draining x", "7 sleeping 3"] {
            assert_eq!(read(torn), (Some(7), None), "{torn}");
        }
        assert_eq!(read(""), (None, None));
    }
}
