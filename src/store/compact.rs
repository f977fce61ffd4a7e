//! The file as small as what is in it: everything is written to a new file, which then takes the place of the old one. So nothing
//! of what was removed or replaced is left in free pages, and whoever is interrupted still has the old file.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, Key, ReadOnlyTable, ReadableTable, TableDefinition, Value};

use super::database::{META, Outcome, RECORDS, STREAMS, VALUES};
use super::file::StoreFile;
use crate::limits::TOOL_BATCH_RECORDS;

impl StoreFile {
    /// See the module documentation. `progress` is told how many rows of the tables are written. There must be room for both files.
    pub fn compact(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), redb::Error> {
        let (old, new) = (self.path(), self.path_of_new());
        let copied = self.copy_to(&new, &old, progress);
        if copied.is_err() {
            // What went wrong is told; this is removed when the store is opened, if it is still there.
            let _ = fs::remove_file(&new);
            return copied;
        }
        self.close();
        fs::rename(&new, &old)?;
        if let Some(directory) = old.parent() {
            fs::File::open(directory)?.sync_all()?;
        }
        self.reopen()
    }

    fn copy_to(&self, new: &Path, old: &Path, progress: &mut dyn FnMut(u64)) -> Outcome<()> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(new)?;
        keep_owner(&file, old)?;
        let mut target = Builder::new().create_with_backend(FileBackend::new(file)?)?;
        self.snapshot(|from| {
            let mut rows = 0;
            let mut copied = |more: u64| {
                rows += more;
                progress(rows);
            };
            copy(&from.meta, &target, META, &mut copied)?;
            copy(&from.streams, &target, STREAMS, &mut copied)?;
            copy(&from.values, &target, VALUES, &mut copied)?;
            copy(&from.records, &target, RECORDS, &mut copied)
        })?;
        target.compact()?;
        Ok(())
    }
}

/// Whoever compacts may be another user than the relay's.
fn keep_owner(file: &fs::File, old: &Path) -> io::Result<()> {
    let (is, was) = (file.metadata()?, fs::metadata(old)?);
    if (is.uid(), is.gid()) != (was.uid(), was.gid()) {
        fchown(file, Some(was.uid()), Some(was.gid()))?;
    }
    file.set_permissions(was.permissions())
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadOnlyTable<K, V>,
    to: &Database,
    definition: TableDefinition<'_, K, V>,
    copied: &mut dyn FnMut(u64),
) -> Outcome<()> {
    let mut rows = from.iter()?;
    loop {
        let write = to.begin_write()?;
        let mut count = 0;
        {
            let mut table = write.open_table(definition)?;
            for row in rows.by_ref().take(TOOL_BATCH_RECORDS) {
                let (key, value) = row?;
                table.insert(key.value(), value.value())?;
                count += 1;
            }
        }
        write.commit()?;
        copied(count as u64);
        if count < TOOL_BATCH_RECORDS {
            return Ok(());
        }
    }
}
