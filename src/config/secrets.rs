//! Secrets: keys of tokens and the token of the admin pages, from files or the environment. None is ever shown.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::keys::Draft;
use crate::limits::ADMIN_TOKEN_BYTES_MIN;
use crate::wire::token::{Algorithm, Verifier, VerifyingKey};

/// A text that is not shown.
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
    /// How tokens name it.
    pub kid: Box<str>,
    /// `None`: `jwt_algorithm`.
    pub algorithm: Option<Algorithm>,
    /// Where it is; or `env`.
    pub file: Option<PathBuf>,
    /// The variable that holds it.
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

/// A key as it was found.
struct Found {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    bytes: Vec<u8>,
    place: Place,
}

/// What signs tokens. Whoever uses it says whether it is a key.
pub struct SigningKey {
    /// How the token names it.
    pub kid: Option<Box<str>>,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The secret, or the private key in PEM.
    pub bytes: Vec<u8>,
    /// Where it was.
    pub place: Place,
}

/// What operators show to the admin pages: printable ASCII without spaces, at least `limits::ADMIN_TOKEN_BYTES_MIN` bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(Box<[u8]>);

impl AdminToken {
    /// For those who compare it.
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
pub(super) fn verifier(draft: &Draft) -> Result<Option<Verifier>, ConfigError> {
    let named = draft.keys.iter().map(|key| named_key(draft, key));
    let found: Vec<Found> =
        nameless_key(draft)?.into_iter().map(Ok).chain(named).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Ok(None);
    }
    let verifying = |found: Found| {
        let Found { kid, algorithm, bytes, place } = found;
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
    let Found { kid, algorithm, bytes, place } = found;
    Ok(SigningKey { kid, algorithm, bytes, place })
}

fn which_key(draft: &Draft, asked: String) -> ConfigError {
    if !has_key(draft) {
        return ConfigError::NoKey;
    }
    ConfigError::WhichKey { asked, kids: draft.keys.iter().map(|key| format!("{:?}", key.kid)).collect() }
}

/// What the admin pages want; `None`: nothing.
pub(super) fn admin_token(draft: &Draft) -> Result<Option<AdminToken>, ConfigError> {
    let (bytes, place) = match (&draft.admin_token, &draft.admin_token_file) {
        (Some(_), Some(_)) => return Err(both("admin_token", "admin_token_file")),
        (Some(token), None) => (token.0.as_bytes().to_vec(), Place::Setting("admin_token")),
        (None, Some(path)) => {
            let read = std::fs::read(path);
            let unreadable = |source| ConfigError::AdminTokenUnreadable { path: path.clone(), source };
            (read.map_err(unreadable)?, Place::File(path.clone()))
        }
        (None, None) => return Ok(None),
    };
    let token = bytes.trim_ascii_end();
    if token.len() < ADMIN_TOKEN_BYTES_MIN || !token.iter().all(u8::is_ascii_graphic) {
        return Err(ConfigError::AdminTokenUnusable { place, bytes: token.len() });
    }
    Ok(Some(AdminToken(token.into())))
}

/// `jwt_key`, or what is in `jwt_key_file`.
fn nameless_key(draft: &Draft) -> Result<Option<Found>, ConfigError> {
    let algorithm = draft.jwt_algorithm;
    match (&draft.jwt_key, &draft.jwt_key_file) {
        (Some(_), Some(_)) => Err(both("jwt_key", "jwt_key_file")),
        (Some(key), None) => Ok(Some(Found {
            kid: None,
            algorithm,
            bytes: key.0.as_bytes().into(),
            place: Place::Setting("jwt_key"),
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
        Some(value) => {
            Ok(Found { kid, algorithm, bytes: value.0.as_bytes().into(), place: Place::Variable(variable) })
        }
        None => Err(ConfigError::KeyNotSet { kid: key.kid.clone(), variable }),
    }
}

fn read_file(kid: Option<Box<str>>, algorithm: Algorithm, path: &Path) -> Result<Found, ConfigError> {
    let read = std::fs::read(path);
    let bytes = read.map_err(|source| ConfigError::KeyUnreadable { path: path.into(), source })?;
    Ok(Found { kid, algorithm, bytes, place: Place::File(path.into()) })
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

    fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
        let error = verifier(&draft(text, variables)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
        error.to_string()
    }

    #[test]
    fn keys_stand_beside_each_other() {
        assert!(verifier(&draft("", &[])).unwrap().is_none(), "development mode");
        let text = format!(
            "jwt_key = '{SECRET}'\n[[key]]\nkid = 'a'\nenv = 'KEY_A'\n[[key]]\nkid = 'b'\nalgorithm = 'EdDSA'\n\
             file = '{}/tests/keys/eddsa.public.pem'",
            env!("CARGO_MANIFEST_DIR")
        );
        let draft = draft(&text, &[("KEY_A", SECRET)]);
        assert!(has_key(&draft));
        assert_eq!(kids(&verifier(&draft).unwrap().unwrap()), [None, Some("a"), Some("b")]);
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
        let chosen = signing_key(&draft, Some("b"), None).unwrap();
        assert_eq!((chosen.kid.as_deref(), chosen.place), (Some("b"), Place::Variable("KEY_B".into())));
        let refusal = |kid| signing_key(&draft, kid, None).err().unwrap().to_string();
        assert_eq!(refusal(None), "no key is called nothing; --kid may be \"a\", \"b\"");
        assert_eq!(refusal(Some("c")), "no key is called \"c\"; --kid may be \"a\", \"b\"");
        assert!(matches!(signing_key(&Draft::default(), None, None), Err(ConfigError::NoKey)));
        let private = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/eddsa.private.pem");
        let given = signing_key(&draft, Some("b"), Some(&private)).unwrap();
        assert_eq!((given.kid.as_deref(), given.place), (Some("b"), Place::File(private)));
    }

    #[test]
    fn an_admin_token_cannot_be_guessed() {
        let token = |text: &str| admin_token(&draft(&format!("admin_token = \"{text}\""), &[]));
        assert_eq!(token("sixteen-letters!\\n").unwrap().unwrap().as_bytes(), b"sixteen-letters!");
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
