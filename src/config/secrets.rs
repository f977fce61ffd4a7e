//! Secrets: keys of tokens and the token of the admin pages, from files or the environment. None is ever shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::error::ConfigError;
use crate::limits::ADMIN_TOKEN_BYTES_MIN;
use crate::wire::token::{Algorithm, Verifier, VerifyingKey, key_text};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Any text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A `[[key]]` table: a key with a name.
#[derive(Debug, Default)]
pub struct KeyTable {
    /// The name by which tokens ask for the key.
    pub kid: Box<str>,
    /// `None`: `jwt_algorithm`.
    pub algorithm: Option<Algorithm>,
    /// The file that holds the key, if it is not in `env`.
    pub file: Option<PathBuf>,
    /// The variable that holds the key.
    pub env: Option<String>,
    /// What that variable holds.
    value: Option<Secret>,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In an environment variable that a `[[key]]` table names.
    Variable(String),
    /// In the configuration itself, under this key.
    Setting(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(variable) => write!(f, "the environment variable {variable}"),
            Self::Setting(key) => write!(f, "`{key}`"),
        }
    }
}

/// A key as it was read.
struct Found {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    bytes: Vec<u8>,
    place: Place,
    mode: Mode,
}

impl Found {
    /// Warns of what is probably not meant. `secret`: whoever reads the key can sign with it.
    fn warn(&self, secret: bool, warnings: &mut Vec<String>) {
        // Text around a PEM block is no part of a key, so only a secret can be cut.
        if self.algorithm == Algorithm::Hs256 {
            warnings.extend(cut(&self.bytes, &self.place));
        }
        warnings.extend(self.mode.exposure(&self.place).filter(|_| secret));
    }
}

/// Permissions of the file that holds a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The secret is in no file.
    NoFile,
    /// The bits of `chmod`.
    Bits(u32),
}

impl Mode {
    /// Who else can read the secret, and what to do about it.
    fn exposure(self, place: &Place) -> Option<String> {
        let Self::Bits(bits) = self else { return None };
        let exposed = bits & 0o007 != 0;
        exposed.then(|| {
            format!("everybody on this machine can read {place} (its mode is {bits:04o}): chmod 600 {place}")
        })
    }
}

/// A warning, if others can read the secret in a file.
pub(super) fn exposure(file: &Path) -> Option<String> {
    let mode = file.metadata().ok()?.permissions().mode();
    Mode::Bits(mode & 0o777).exposure(&Place::File(file.into()))
}

/// A warning, if there is more in `place` than the text that is the key.
fn cut(bytes: &[u8], place: &Place) -> Option<String> {
    let text = key_text(bytes);
    let start = text.as_ptr().addr() - bytes.as_ptr().addr();
    let (before, behind) = (&bytes[..start], &bytes[start + text.len()..]);
    let sides = [(before, "before"), (behind, "behind")];
    let sides = sides.into_iter().filter(|(around, _)| !around.is_empty());
    let around: Vec<String> = sides
        .map(|(around, side)| format!("\"{}\" {side} it", String::from_utf8_lossy(around).escape_default()))
        .collect();
    (!around.is_empty()).then(|| {
        format!(
            "the key in {place} is the text without what stands around it ({}): whoever signs with it must leave that out, too",
            around.join(", ")
        )
    })
}

/// A key that signs tokens. Its bytes are not checked yet: signing fails if they are no key.
pub struct SigningKey {
    /// How the token names it.
    pub kid: Option<Box<str>>,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The secret, or the private key in PEM.
    pub bytes: Vec<u8>,
    /// Where it was read.
    pub place: Place,
}

/// What operators show to the admin pages: printable ASCII without spaces, at least `limits::ADMIN_TOKEN_BYTES_MIN` bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(Box<[u8]>);

impl AdminToken {
    /// The bytes that a request must show.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Fills in the variables that `[[key]]` tables name. An empty one counts as not set.
pub(super) fn look_up(keys: &mut [KeyTable], variables: &[(String, String)]) {
    for key in keys {
        let Some(name) = &key.env else { continue };
        let found = variables.iter().find(|(variable, value)| variable == name && !value.is_empty());
        key.value = found.map(|(_, value)| Secret::new(value));
    }
}

/// Whether tokens are needed.
pub(super) fn has_key(draft: &Draft) -> bool {
    draft.jwt_key.is_some() || draft.jwt_key_file.is_some() || !draft.keys.is_empty()
}

/// See `Loaded::verifier`.
pub(super) fn verifier(draft: &Draft, warnings: &mut Vec<String>) -> Result<Option<Verifier>, ConfigError> {
    let named = draft.keys.iter().map(|key| named_key(draft, key));
    let found: Vec<Found> =
        nameless_key(draft)?.into_iter().map(Ok).chain(named).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Ok(None);
    }
    for found in &found {
        found.warn(found.algorithm == Algorithm::Hs256, warnings);
    }
    let verifying = |found: Found| {
        let Found { kid, algorithm, bytes, place, .. } = found;
        VerifyingKey::new(kid, algorithm, &bytes).map_err(|source| ConfigError::KeyUnusable { place, source })
    };
    let keys = found.into_iter().map(verifying).collect::<Result<_, _>>()?;
    Ok(Some(Verifier::of(keys)?))
}

/// See `Loaded::signing_key`.
pub(super) fn signing_key(
    draft: &Draft,
    kid: Option<&str>,
    file: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<SigningKey, ConfigError> {
    let named = kid.and_then(|kid| draft.keys.iter().find(|key| *key.kid == *kid));
    let found = match (file, kid, named) {
        // The relay may have the public key; this is the private one.
        (Some(file), ..) => {
            let algorithm = named.and_then(|key| key.algorithm).unwrap_or(draft.jwt_algorithm);
            Found { kid: kid.map(Into::into), ..read_file(None, algorithm, file)? }
        }
        (None, _, Some(key)) => named_key(draft, key)?,
        (None, Some(kid), None) => return Err(which_key(draft, format!("{kid:?}"))),
        (None, None, None) => match (nameless_key(draft)?, draft.keys.as_slice()) {
            (Some(found), _) => found,
            (None, [key]) => named_key(draft, key)?,
            (None, _) => return Err(which_key(draft, "nothing".into())),
        },
    };
    found.warn(true, warnings);
    let Found { kid, algorithm, bytes, place, .. } = found;
    Ok(SigningKey { kid, algorithm, bytes, place })
}

fn which_key(draft: &Draft, asked: String) -> ConfigError {
    if !has_key(draft) {
        return ConfigError::NoKey;
    }
    ConfigError::WhichKey { asked, kids: draft.keys.iter().map(|key| format!("{:?}", key.kid)).collect() }
}

/// The token that the admin pages want. `None`: they want none.
pub(super) fn admin_token(
    draft: &Draft,
    warnings: &mut Vec<String>,
) -> Result<Option<AdminToken>, ConfigError> {
    let (bytes, place, mode) = match (&draft.admin_token, &draft.admin_token_file) {
        (Some(_), Some(_)) => return Err(both("admin_token", "admin_token_file")),
        (Some(token), None) => (token.0.as_bytes().to_vec(), Place::Setting("admin_token"), Mode::NoFile),
        (None, Some(path)) => {
            let unreadable = |source| ConfigError::AdminTokenUnreadable { path: path.clone(), source };
            let (bytes, mode) = read(path).map_err(unreadable)?;
            (bytes, Place::File(path.clone()), mode)
        }
        (None, None) => return Ok(None),
    };
    warnings.extend(mode.exposure(&place));
    let token = key_text(&bytes);
    if token.len() < ADMIN_TOKEN_BYTES_MIN || !token.iter().all(u8::is_ascii_graphic) {
        return Err(ConfigError::AdminTokenUnusable { place, bytes: token.len() });
    }
    Ok(Some(AdminToken(token.into())))
}

/// The key without a name, from `jwt_key` or `jwt_key_file`.
fn nameless_key(draft: &Draft) -> Result<Option<Found>, ConfigError> {
    let algorithm = draft.jwt_algorithm;
    match (&draft.jwt_key, &draft.jwt_key_file) {
        (Some(_), Some(_)) => Err(both("jwt_key", "jwt_key_file")),
        (Some(key), None) => Ok(Some(Found {
            kid: None,
            algorithm,
            bytes: key.0.as_bytes().into(),
            place: Place::Setting("jwt_key"),
            mode: Mode::NoFile,
        })),
        (None, Some(path)) => read_file(None, algorithm, path).map(Some),
        (None, None) => Ok(None),
    }
}

fn named_key(draft: &Draft, key: &KeyTable) -> Result<Found, ConfigError> {
    let algorithm = key.algorithm.unwrap_or(draft.jwt_algorithm);
    let kid = Some(key.kid.clone());
    if let Some(path) = &key.file {
        return read_file(kid, algorithm, path);
    }
    let variable = key.env.clone().unwrap_or_default();
    match &key.value {
        Some(value) => Ok(Found {
            kid,
            algorithm,
            bytes: value.0.as_bytes().into(),
            place: Place::Variable(variable),
            mode: Mode::NoFile,
        }),
        None => Err(ConfigError::KeyNotSet { kid: key.kid.clone(), variable }),
    }
}

fn read_file(kid: Option<Box<str>>, algorithm: Algorithm, path: &Path) -> Result<Found, ConfigError> {
    let (bytes, mode) =
        read(path).map_err(|source| ConfigError::KeyUnreadable { path: path.into(), source })?;
    Ok(Found { kid, algorithm, bytes, place: Place::File(path.into()), mode })
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Mode)> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, Mode::Bits(mode & 0o777)))
}

fn both(key: &str, file: &str) -> ConfigError {
    ConfigError::Conflict {
        what: format!(
            "both `{key}` and `{file}` are set; remove one (an empty environment variable counts as not set)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::assign_file;
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn draft(text: &str, variables: &[(&str, &str)]) -> Draft {
        let mut draft = Draft::default();
        assign_file(&mut draft, Path::new("corelay.toml"), text).unwrap();
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        look_up(&mut draft.keys, &variables);
        draft
    }

    fn kids(verifier: &Verifier) -> Vec<Option<&str>> {
        verifier.keys().iter().map(VerifyingKey::kid).collect()
    }

    /// Writes a file that only this test has.
    fn file(name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = std::env::temp_dir().join(format!("corelay-secrets-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// What a configuration is warned about.
    fn warnings(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let mut warnings = Vec::new();
        let draft = draft(text, variables);
        admin_token(&draft, &mut warnings).unwrap();
        verifier(&draft, &mut warnings).unwrap();
        assert!(warnings.iter().all(|warning| !warning.contains(SECRET)), "{warnings:?}");
        warnings
    }

    fn verifier_of(draft: &Draft) -> Result<Option<Verifier>, ConfigError> {
        verifier(draft, &mut Vec::new())
    }

    fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
        let error = verifier_of(&draft(text, variables)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
        error.to_string()
    }

    #[test]
    fn keys_stand_beside_each_other() {
        assert!(verifier_of(&draft("", &[])).unwrap().is_none(), "development mode");
        let text = format!(
            "jwt_key = '{SECRET}'\n[[key]]\nkid = 'a'\nenv = 'KEY_A'\n[[key]]\nkid = 'b'\nalgorithm = 'EdDSA'\n\
             file = '{}/tests/keys/eddsa.public.pem'",
            env!("CARGO_MANIFEST_DIR")
        );
        let draft = draft(&text, &[("KEY_A", SECRET)]);
        assert!(has_key(&draft));
        assert_eq!(kids(&verifier_of(&draft).unwrap().unwrap()), [None, Some("a"), Some("b")]);
    }

    #[test]
    fn what_is_cut_from_a_secret_is_said() {
        for (before, after, said) in [
            ("", "", None),
            ("", "\n", Some(r#"("\n" behind it)"#)),
            ("\u{FEFF} ", "\r\n\n", Some(r#"("\u{feff} " before it, "\r\n\n" behind it)"#)),
        ] {
            let content = format!("{before}{SECRET}{after}");
            let path = file("cut", content.as_bytes(), 0o600);
            let of_file = warnings(&format!("jwt_key_file = '{}'", path.display()), &[]);
            std::fs::remove_file(path).unwrap();
            let of_variable = warnings("[[key]]\nkid = 'a'\nenv = 'KEY_A'", &[("KEY_A", &content)]);
            for found in [of_file, of_variable] {
                assert_eq!(found.len(), usize::from(said.is_some()), "{found:?}");
                assert!(found.iter().zip(said).all(|(warning, said)| warning.contains(said)), "{found:?}");
            }
        }
        let pem = include_bytes!("../../tests/keys/eddsa.public.pem");
        let path = file("pem", &[&b"\n"[..], pem, b"\n\n"].concat(), 0o644);
        let text = format!("jwt_algorithm = 'EdDSA'\njwt_key_file = '{}'", path.display());
        assert_eq!(
            warnings(&text, &[]),
            [""; 0],
            "everybody may have a public key, however it stands in its file"
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_said() {
        for (mode, said) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true), (0o666, true)] {
            let (key, token) = (file("key", SECRET.as_bytes(), mode), file("token", SECRET.as_bytes(), mode));
            let text =
                format!("jwt_key_file = '{}'\nadmin_token_file = '{}'", key.display(), token.display());
            let found = warnings(&text, &[]);
            assert_eq!(found.len(), if said { 2 } else { 0 }, "{mode:o}: {found:?}");
            for (warning, path) in found.iter().zip([&token, &key]) {
                let remedy = format!("(its mode is {mode:04o}): chmod 600 {}", path.display());
                assert!(warning.ends_with(&remedy), "{warning}");
            }
            for path in [key, token] {
                std::fs::remove_file(path).unwrap();
            }
        }
        let private = file("private", include_bytes!("../../tests/keys/eddsa.private.pem"), 0o644);
        let mut warnings = Vec::new();
        signing_key(&draft("jwt_algorithm = 'EdDSA'", &[]), None, Some(&private), &mut warnings).unwrap();
        assert!(warnings[0].contains("everybody on this machine can read"), "{warnings:?}");
        std::fs::remove_file(private).unwrap();
    }

    #[test]
    fn a_bad_key_is_named_by_its_place() {
        let text = "[[key]]\nkid = 'a'\nenv = 'KEY_A'";
        let unset = "the key \"a\" is read from the environment variable KEY_A, which is not set";
        assert_eq!(refusal(text, &[("KEY_B", SECRET)]), unset);
        assert_eq!(refusal(text, &[("KEY_A", "")]), unset);
        let short = "the key in the environment variable KEY_A cannot be used";
        assert_eq!(refusal(text, &[("KEY_A", "short")]), short);
        assert_eq!(refusal("jwt_key = 'short'", &[]), "the key in `jwt_key` cannot be used");
        let both = refusal(&format!("jwt_key = '{SECRET}'\njwt_key_file = 'x'"), &[]);
        assert!(both.starts_with("both `jwt_key` and `jwt_key_file` are set"), "{both}");
        let twice = "[[key]]\nkid = 'a'\nenv = 'KEY_A'\n[[key]]\nkid = 'a'\nenv = 'KEY_A'";
        assert_eq!(refusal(twice, &[("KEY_A", SECRET)]), "the keys of the tokens cannot be used together");
    }

    #[test]
    fn one_of_several_keys_signs() {
        let two = "[[key]]\nkid = 'a'\nenv = 'KEY_A'\n[[key]]\nkid = 'b'\nenv = 'KEY_B'";
        let draft = draft(two, &[("KEY_A", SECRET), ("KEY_B", SECRET)]);
        let sign_with = |draft: &Draft, kid, file| signing_key(draft, kid, file, &mut Vec::new());
        let chosen = sign_with(&draft, Some("b"), None).unwrap();
        assert_eq!((chosen.kid.as_deref(), chosen.place), (Some("b"), Place::Variable("KEY_B".into())));
        let refusal = |kid| sign_with(&draft, kid, None).err().unwrap().to_string();
        assert_eq!(refusal(None), "no key is called nothing; --kid may be \"a\", \"b\"");
        assert_eq!(refusal(Some("c")), "no key is called \"c\"; --kid may be \"a\", \"b\"");
        assert!(matches!(sign_with(&Draft::default(), None, None), Err(ConfigError::NoKey)));
        let private = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/eddsa.private.pem");
        let given = sign_with(&draft, Some("b"), Some(&private)).unwrap();
        assert_eq!((given.kid.as_deref(), given.place), (Some("b"), Place::File(private)));
    }

    #[test]
    fn an_admin_token_cannot_be_guessed() {
        let admin_token = |draft: &Draft| admin_token(draft, &mut Vec::new());
        let token = |text: &str| admin_token(&draft(&format!("admin_token = \"{text}\""), &[]));
        for around in ["sixteen-letters!\\n", "\\uFEFFsixteen-letters!\\r\\n\\n", " sixteen-letters!"] {
            assert_eq!(token(around).unwrap().unwrap().as_bytes(), b"sixteen-letters!");
        }
        let error = token("fifteen-letters").unwrap_err().to_string();
        assert!(error.contains("`admin_token` has 15 bytes; it must have at least 16"), "{error}");
        assert!(token("sixteen letters!").is_err(), "a space would end it in the header");
        assert_eq!(admin_token(&Draft::default()).unwrap(), None);
        assert!(matches!(
            admin_token(&draft("admin_token_file = '/nowhere/token'", &[])),
            Err(ConfigError::AdminTokenUnreadable { .. })
        ));
    }
}
