//! Bounds of TLS in the process.

/// Bytes of a client that wait for the rest of their record, or of their handshake message: the largest record is 16 KiB and 2 KiB
/// of what its cipher may add. More: the connection ends.
pub const TLS_PENDING_BYTES_MAX: usize = 20 * 1024;
/// Memory of an idle connection with TLS beyond that of one without: 3.5 KB measured. Where it does not fit, a relay with
/// `connections_max` refuses to start.
pub const TLS_CONNECTION_BYTES: u64 = 3_600;
/// Records of one connection that say nothing to the core, in its life: updates of keys, 6 µs each with the dearest cipher. Honest
/// clients make one for some millions of records. More: the connection ends.
pub const TLS_SILENT_RECORDS_MAX: u32 = 256;
/// Units of work (see `PART_WORK_MAX`) that one of them counts as, beside the one of any record.
pub const TLS_SILENT_RECORD_WORK: u32 = 16;
/// Steps of handshakes that a shard takes in one turn: a signature takes 0.1 ms and more, and ticks wait for it. More wait in order.
pub const HANDSHAKE_STEPS_PER_TURN: usize = 8;
/// Connections that wait for their next step. More: clients are not accepted on `listen_tls` until half of them are left; those
/// whose accept was in flight still come.
pub const HANDSHAKES_WAITING_MAX: usize = 256;
/// The log warns of a certificate that expires within this.
pub const CERTIFICATE_EXPIRY_WARNING_S: i64 = 14 * 24 * 60 * 60;
/// Accepts that may be in flight one by one: those of `listen`, and those of `listen_tls`.
pub const SINGLE_ACCEPTS_MAX: usize = 2 * super::ACCEPTS_IN_FLIGHT;
/// `[[certificate]]` tables. More: the configuration is refused.
pub const CERTIFICATES_MAX: usize = 64;
/// File of a certificate with its chain, or of a key. Longer: refused without being read.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 256 * 1024;
/// For how long a certificate of `corelay cert` is good.
pub const SELF_SIGNED_DAYS: u32 = 365;
