//! What it says to wrong input, and what it prints.

use super::*;

#[test]
fn an_unknown_key_suggests_the_right_one() {
    let folder = Folder::new("unknown-key");
    folder.write("corelay.toml", "shards = 1\n\n[[game]]\npattern = 'arena-*'\ntick_hs = 30\n");
    let expected = "error: unknown key `tick_hs` (corelay.toml line 5); did you mean `tick_hz`?\n";
    assert_eq!(folder.failure(&[]), (2, expected.into()));
    assert_eq!(folder.failure(&["doctor"]), (2, expected.into()));
}

#[test]
fn a_wrong_value_names_its_place_and_what_is_allowed() {
    let folder = Folder::new("wrong-value");
    folder.write("other.toml", "[[game]]\npattern = 'a'\ntick_hz = 500\n");
    let (code, error) = folder.failure(&["--config", "other.toml"]);
    assert_eq!(
        (code, error.as_str()),
        (2, "error: `tick_hz` is 500 (other.toml line 3); it must be a whole number from 1 to 120\n")
    );
    let (code, error) = folder.failure(&["--shards", "none"]);
    assert_eq!(
        (code, error.as_str()),
        (2, "error: `shards` is \"none\" (--shards); it must be a whole number from 1 to 256\n")
    );
    let output = folder.corelay(&[]).env("CORELAY_RATES_MOVE_PER_S", "0").output().unwrap();
    let expected = "error: `rates.move_per_s` is \"0\" (environment variable CORELAY_RATES_MOVE_PER_S); it must be a whole number from 1 to 1000000\n";
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(2), expected));
    let (code, error) = folder.failure(&["--config", "missing.toml"]);
    assert!(
        code == 2 && error.contains("cannot read the configuration file missing.toml\n  cause: No such file"),
        "{error}"
    );
    for (arguments, hint) in [
        (&["--lisen", "127.0.0.1:0"][..], "'--listen'"),
        (&["--port", "4000"], "did you mean --listen 127.0.0.1:4000, address and port?"),
        (
            &["serve", "--max-players=9"],
            "`players_max` is set in the configuration file, in a [[game]] table",
        ),
        (&["doctor", "--allowed-origins", "*"], "as CORELAY_ALLOWED_ORIGINS"),
    ] {
        let (code, error) = folder.failure(arguments);
        assert!(code == 2 && error.contains(hint), "{error}");
    }
    let (_, error) = folder.failure(&["token", "--sub", "ann", "--port", "4000"]);
    assert!(!error.contains("--listen"), "a token has no such flag: {error}");
}

#[test]
fn strangers_and_impossible_numbers_are_refused_with_a_remedy() {
    let folder = Folder::new("refusals");
    let (code, error) = folder.failure(&["--listen", "0.0.0.0:0"]);
    assert!(
        code == 2 && error.contains("development mode") && error.contains("\n  try: make a key"),
        "{error}"
    );
    folder.write("short.key", "secret\n");
    let (code, error) = folder.failure(&["--jwt-key-file", "short.key"]);
    assert!(
        code == 2 && error.contains("short.key cannot be used\n  cause: ") && error.contains("32 bytes"),
        "{error}"
    );
    let (code, error) = folder.failure(&["--connections-max", "1048576", "--shards", "1"]);
    assert!(
        code == 2 && error.contains("RLIMIT_NOFILE") && error.contains("\n  try: use `--shards "),
        "{error}"
    );
}

#[test]
fn help_teaches() {
    let folder = Folder::new("help");
    let help = text(&folder.run(&["--help"]).stdout);
    for part in [
        "--jwt-key-file",
        "Examples:",
        "corelay.toml",
        "CORELAY_",
        "SIGTERM",
        "Exit codes:",
        "token",
        "doctor",
    ] {
        assert!(help.contains(part), "{part:?} is missing in\n{help}");
    }
    let commands = ["token", "cert", "doctor", "healthcheck", "completions", "man", "store"]
        .map(|command| vec![command]);
    let of_store =
        ["check", "stats", "export", "import", "compact", "erase-user"].map(|command| vec!["store", command]);
    for command in commands.into_iter().chain(of_store) {
        let help = text(&folder.run(&[&command[..], &["--help"]].concat()).stdout);
        let example = help.split_once("Example").map_or("", |(_, example)| example);
        assert!(example.contains(&format!("corelay {}", command.join(" "))), "no example in\n{help}");
    }
    assert_eq!(text(&folder.run(&["--version"]).stdout), format!("corelay {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_minted_token_is_one_that_the_relay_accepts() {
    let folder = Folder::new("token");
    let key = "0123456789abcdef0123456789abcdef";
    folder.write("corelay.key", &format!("{key}\n"));
    folder.write("corelay.toml", "jwt_key_file = 'corelay.key'\n");
    let output = folder.run(&[
        "token",
        "--sub",
        "ann",
        "--name",
        "Ann",
        "--topics",
        "game:arena-*, game:lobby",
        "--host",
        "--ttl",
        "15m",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let token = text(&output.stdout);
    assert_eq!(token.lines().count(), 1);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = Verifier::new(Algorithm::Hs256, key.as_bytes()).unwrap().verify(token.trim(), now).unwrap();
    assert_eq!((&*claims.user, claims.name.as_deref(), claims.host), ("ann", Some("Ann"), true));
    assert!((now + 890..=now + 900).contains(&claims.expires_at_s));
    let allows = |name| claims.allows(&Topic::Game(TopicName::parse(name).unwrap()));
    assert!(allows("arena-7") && allows("lobby") && !allows("garden"));

    let hint = text(&output.stderr);
    for part in [
        "warning: the key in corelay.key is the text without what stands around it (\"\\n\" behind it)",
        "curl -i -N",
        &format!("'http://127.0.0.1:4000/play/arena-1?token={}'", token.trim()),
        "new WebSocket(\"ws://127.0.0.1:4000/play/arena-1?token=",
        &format!("new Socket(\"ws://127.0.0.1:4000/socket\", {{ authToken: \"{}\" }})", token.trim()),
        "channel(\"game:arena-1\")",
    ] {
        assert!(hint.contains(part), "{part} is missing in\n{hint}");
    }
}

#[test]
fn a_private_key_signs_what_its_public_key_verifies() {
    let folder = Folder::new("token-rs256");
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
    for (name, algorithm) in
        [("rs256", Algorithm::Rs256), ("es256", Algorithm::Es256), ("eddsa", Algorithm::EdDsa)]
    {
        let private = keys.join(format!("{name}.private.pem"));
        let output = folder.run(&[
            "token",
            "--sub",
            "ann",
            "--jwt-algorithm",
            name,
            "--jwt-key-file",
            private.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        let public = std::fs::read(keys.join(format!("{name}.public.pem"))).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Verifier::new(algorithm, &public).unwrap().verify(text(&output.stdout).trim(), now).unwrap();
    }
}

#[test]
fn one_of_several_keys_is_chosen_by_its_kid() {
    let folder = Folder::new("token-kid");
    let (old, new) = ("old-0123456789abcdef0123456789abcdef", "new-0123456789abcdef0123456789abcdef");
    folder.write("new.key", new);
    folder.write(
        "corelay.toml",
        "[[key]]\nkid = '2026-01'\nenv = 'CORELAY_OLD_KEY'\n[[key]]\nkid = '2026-02'\nfile = 'new.key'\n",
    );
    let mint = |kid: &[&str]| {
        let mut command = folder.corelay(&["token", "--sub", "ann"]);
        let output = command.args(kid).env("CORELAY_OLD_KEY", old).output().unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (kid, key) in [("2026-01", old), ("2026-02", new)] {
        let (code, token, error) = mint(&["--kid", kid]);
        assert_eq!(code, 0, "{error}");
        assert!(!error.contains("names no key"), "the variable is one that a table names: {error}");
        let key = VerifyingKey::new(Some(kid.into()), Algorithm::Hs256, key.as_bytes()).unwrap();
        Verifier::of(vec![key]).unwrap().verify(token.trim(), now).unwrap();
    }
    let (code, _, error) = mint(&[]);
    let expected = "error: no key is called nothing; --kid may be \"2026-01\", \"2026-02\"\n";
    assert_eq!((code, error.as_str()), (2, expected));
    let (code, error) = folder.failure(&[]);
    let expected = "error: the key \"2026-01\" is read from the environment variable CORELAY_OLD_KEY, which is not set\n";
    assert_eq!((code, error.as_str()), (2, expected));
}

#[test]
fn a_secret_in_a_variable_is_a_key_and_is_not_shown() {
    let folder = Folder::new("key-variable");
    let mut command = folder.corelay(&["token", "--sub", "ann"]);
    let output = command.env("CORELAY_JWT_KEY", "too-short-to-be-a-key").output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(error.starts_with("error: the key in `jwt_key` cannot be used\n  cause: a secret"), "{error}");
    assert!(!error.contains("too-short"), "{error}");
    let mut command = folder.corelay(&["token", "--sub", "ann"]);
    assert!(command.env("CORELAY_JWT_KEY", "k".repeat(32)).output().unwrap().status.success());
}

#[test]
fn admin_pages_beyond_loopback_need_a_token() {
    let folder = Folder::new("admin-token");
    for arguments in [&["--admin", "0.0.0.0:0"][..], &["--admin", "0.0.0.0:0", "--insecure"]] {
        let (code, error) = folder.failure(arguments);
        assert!(
            code == 2
                && error.contains("refusing to serve the admin pages on 0.0.0.0:0")
                && error.contains("\n  try: make one"),
            "{error}"
        );
    }
    folder.write("admin.token", "short\n");
    let mut command = folder.corelay(&["--admin", "0.0.0.0:0"]);
    let output = command.env("CORELAY_ADMIN_TOKEN_FILE", "admin.token").output().unwrap();
    let error = text(&output.stderr);
    assert!(
        error.contains("the admin token in admin.token has 5 bytes; it must have at least 16"),
        "{error}"
    );
}

#[test]
fn a_certificate_is_made_and_a_bad_one_is_named_with_its_file() {
    let folder = Folder::new("certificates");
    let made = folder.run(&["cert", "--self-signed", "localhost"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let configured = text(&made.stdout);
    assert!(configured.contains("[[certificate]]\nfile = \"./localhost.crt\"\nkey = \"./localhost.key\""));
    let (code, error) = folder.failure(&["cert", "--self-signed", "localhost"]);
    assert!(code == 1 && error.contains("cannot write ./localhost.key"), "it was there: {error}");
    let (code, error) = folder.failure(&["cert", "--self-signed", "no/host"]);
    assert!(code == 2 && error.contains("is no host name or address"), "{error}");
    assert!(folder.run(&["cert", "--self-signed", "other.example"]).status.success());

    let configured = configured.replace("127.0.0.1:4443", "127.0.0.1:0");
    folder.write("corelay.toml", &configured);
    let any_port = ["doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let report = folder.run(&any_port);
    assert!(report.status.success() && text(&report.stdout).contains("for localhost"));
    let cases = [
        (
            "./localhost.key",
            "other.example.key",
            "the key in other.example.key does not belong to the certificate",
        ),
        ("./localhost.key", "nowhere.key", "cannot read the certificate or key file nowhere.key"),
        ("./localhost.crt", "./localhost.key", "./localhost.key has a key and no certificate"),
        ("./localhost.key", "./localhost.crt", "./localhost.crt has no private key"),
    ];
    for (good, bad, expected) in cases {
        let field = if good.ends_with("key") { "key = " } else { "file = " };
        let line = |path: &str| format!("{field}\"{path}\"");
        folder.write("corelay.toml", &configured.replace(&line(good), &line(bad)));
        let (code, error) = folder.failure(&[]);
        assert!(code == 2 && error.contains(expected), "{error}");
        let report = text(&folder.run(&any_port).stdout);
        assert!(report.contains("FAIL  configuration") && report.contains(expected), "{report}");
    }
    folder.write("corelay.toml", "listen_tls = '127.0.0.1:0'\n");
    let (code, error) = folder.failure(&[]);
    assert!(
        code == 2 && error.contains("needs a [[certificate]]") && error.contains("corelay cert"),
        "{error}"
    );
    folder.write("corelay.toml", "[[certificate]]\nfile = 'a'\n");
    let (code, error) = folder.failure(&[]);
    assert!(code == 2 && error.contains("`certificate.key` is missing (corelay.toml line 1)"), "{error}");
}

#[test]
fn the_doctor_says_how_long_a_certificate_is_good() {
    let folder = Folder::new("lifetimes");
    folder.write(
        "corelay.toml",
        "listen_tls = '127.0.0.1:0'\n[[certificate]]\nfile = 'relay.crt'\nkey = 'relay.key'\n",
    );
    let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let day_s = 86_400;
    for (made_days_ago, code, mark, said) in [
        (0, 0, "ok  ", "for localhost; expires in 364 days"),
        (360, 0, "note", "for localhost; expires in 4 days: renew it"),
        (368, 1, "FAIL", "for localhost; has expired, 3 days ago: clients refuse it"),
    ] {
        let made_at_s = now_unix_s - made_days_ago * day_s - day_s / 2;
        let pair = corelay::tls::self_signed::make("localhost", made_at_s).unwrap();
        folder.write("relay.crt", &pair.certificate);
        folder.write("relay.key", &pair.key);
        let output = folder.run(&["doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let report = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{report}");
        let line = report.lines().find(|line| line.contains("relay.crt")).unwrap();
        assert!(line.starts_with(mark) && line.contains(said), "{line}");
        assert_eq!(
            report.matches("renew it").count() + report.matches("has expired").count(),
            usize::from(made_days_ago > 0)
        );
    }
}

#[test]
fn a_token_needs_a_key_and_a_sound_user() {
    let folder = Folder::new("token-refused");
    let (code, error) = folder.failure(&["token", "--sub", "ann"]);
    assert!(code == 2 && error.contains("development mode") && error.contains("openssl rand"), "{error}");
    folder.write("corelay.key", &"k".repeat(32));
    let (code, error) = folder.failure(&["token", "--sub", "", "--jwt-key-file", "corelay.key"]);
    assert_eq!((code, error.as_str()), (2, "error: --sub has 0 bytes; it must have 1 to 128\n"));
    let (code, error) =
        folder.failure(&["token", "--sub", "ann", "--ttl", "1w", "--jwt-key-file", "corelay.key"]);
    assert!(code == 2 && error.contains("90s, 15m, 1h, 7d"), "{error}");
    let (code, error) =
        folder.failure(&["token", "--sub", "ann", "--topics", "games:*", "--jwt-key-file", "corelay.key"]);
    let said = "error: --topics \"games:*\" covers no topic; did you mean game:*?\n";
    assert_eq!((code, error.as_str()), (2, said));
}

#[test]
fn the_doctor_says_whether_the_relay_could_run() {
    let folder = Folder::new("doctor");
    let any_port = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let output = folder.run(&[&["doctor", "--shards", "3"][..], &any_port].concat());
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}");
    for part in ["kernel", "io_uring", "RLIMIT_NOFILE", "net.core.somaxconn", "on 3 shard(s)"] {
        assert!(report.contains(part), "{part:?} is missing in\n{report}");
    }
    let output = folder.run(&["doctor", "--connections-max", "100000000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with("The relay cannot run here: see FAIL above.\n"));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = folder.run(&[
        "doctor",
        "--listen",
        &address,
        "--admin",
        "127.0.0.1:0",
        "--jwt-key-file",
        "missing.key",
    ]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    for part in [
        &format!("another process listens on {address}"),
        "cannot read the key file missing.key: No such file",
    ] {
        assert!(report.contains(part), "{part:?} is missing in\n{report}");
    }
    folder.write("file", "");
    let output = folder.run(&[&["doctor", "--data-dir", "file/data"][..], &any_port].concat());
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("FAIL  store") && report.contains("--data-dir, or say --ephemeral"), "{report}");
    let (code, error) = folder.failure(&["doctor", "--config", "missing.toml"]);
    assert!(code == 2 && error.contains("cannot read the configuration file missing.toml"), "{error}");
}
