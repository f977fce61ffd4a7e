//! Keys of a `[[certificate]]`.

use super::{Key, REQUIRED, key, put, set};
use crate::config::certificates::CertificateTable;
use crate::config::draft::Draft;
use crate::config::error::ConfigError;
use crate::config::source::{Assignment, Origin};
use crate::config::value::path;
use crate::limits::CERTIFICATES_MAX;

#[rustfmt::skip]
pub(super) const CERTIFICATE_KEYS: &[Key<CertificateTable>] = &[
    key("certificate.file", |table, value| put(&mut table.file, path(value)), |_| REQUIRED.into(),
        "the certificate and behind it its chain, in PEM (of certbot: `fullchain.pem`)"),
    key("certificate.key", |table, value| put(&mut table.key, path(value)), |_| REQUIRED.into(),
        "its private key, in PEM and not encrypted (of certbot: `privkey.pem`). ECDSA is faster, RSA works"),
];

pub(super) fn assign(
    draft: &mut Draft,
    assignments: &[Assignment],
    table: Origin,
) -> Result<(), ConfigError> {
    let mut certificate = CertificateTable::default();
    for assignment in assignments {
        set(CERTIFICATE_KEYS, &mut certificate, assignment)?;
    }
    let keys = [("certificate.file", &certificate.file), ("certificate.key", &certificate.key)];
    if let Some((key, _)) = keys.into_iter().find(|(_, path)| path.as_os_str().is_empty()) {
        return Err(ConfigError::Value {
            key: key.into(),
            found: "missing".into(),
            origin: table,
            expected: "there: the path of a file".into(),
        });
    }
    if draft.certificates.len() == CERTIFICATES_MAX {
        let what = format!("{table} is one [[certificate]] too many: there may be {CERTIFICATES_MAX}");
        return Err(ConfigError::Conflict { what });
    }
    draft.certificates.push(certificate);
    Ok(())
}
