//! The floors of `src/lib.rs` hold: no module uses one that stands below it in that list, the siblings of floors 3 and 6 do not
//! see each other, and floors 1 to 4 touch nothing of the outside world. The loop knows no interface of the kernel.
//!
//! The load test has floors, too, in `loadtest/src/main.rs`; and no two of its files use each other, however many stand between.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Floors whose modules do not even see those that stand above them on the same floor.
const FLOORS_OF_STRANGERS: &[u32] = &[3, 6];
/// Floors of the load test whose modules do not see each other: its scenarios.
const LOADTEST_FLOORS_OF_STRANGERS: &[u32] = &[6];
/// The highest floor of the sans-I/O core.
const CORE_FLOOR_MAX: u32 = 4;

/// The module that parses what clients send; the rest of the core sees values.
const DOOR: &str = "wire";
/// The crate that parses JSON.
const JSON_PARSER: &str = "serde_json";

/// Modules of `std` that the core must not use: files, threads, the process. (`net` has addresses, which are only words.)
const FORBIDDEN_STD_MODULES: [&str; 5] = ["env", "fs", "os", "process", "thread"];
/// What the core must not name: sockets, clocks, locks, channels, the system's randomness, terminals, logs.
const FORBIDDEN_NAMES: [&str; 18] = [
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "Mutex",
    "RwLock",
    "Condvar",
    "mpsc",
    "OsRng",
    "SysRng",
    "thread_rng",
    "println",
    "eprintln",
    "tracing",
];

#[test]
fn no_arrow_points_up_or_sideways() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = Modules::read(&fs::read_to_string(root.join("lib.rs")).unwrap());
    assert!(modules.0.len() > 10, "lib.rs lists its modules under `// Floor N` comments: {:?}", modules.0);

    let faults = faults_of_files(&root, "src", |name, depth, code, is_test| {
        let mut faults = modules.faults(name, depth, code, FLOORS_OF_STRANGERS);
        faults.extend(modules.outside_world_in_core(name, code, is_test));
        faults
    });
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_load_test_has_floors_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest/src");
    let modules = Modules::read(&fs::read_to_string(root.join("main.rs")).unwrap());
    assert!(modules.0.len() > 10, "main.rs lists its modules under `// Floor N` comments: {:?}", modules.0);
    let faults = faults_of_files(&root, "loadtest/src", |name, depth, code, _| {
        modules.faults(name, depth, code, LOADTEST_FLOORS_OF_STRANGERS)
    });
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_two_files_of_the_load_test_use_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest/src");
    let mut files = Vec::new();
    list_files(&root, &mut files);
    let sources = files.iter().filter_map(|file| {
        let path = file.strip_prefix(&root).unwrap();
        let code = without_test_modules(&without_comments_and_texts(&fs::read_to_string(file).unwrap()));
        (!is_test_file(path)).then(|| (module_path(path), code))
    });
    let uses = files_used(&sources.collect());
    assert!(uses.len() > 20 && uses.values().any(|used| used.len() > 2), "{uses:?}");
    let circle = files_in_circles(uses);
    assert!(circle.is_empty(), "these files use each other: {circle:?}");
}

/// What `check` finds in every file but the crate's root: it is given the top module, the depth of the file's own, its code
/// without comments and texts, and whether it is a test.
fn faults_of_files(
    root: &Path,
    shown_as: &str,
    check: impl Fn(&str, usize, &str, bool) -> Vec<String>,
) -> Vec<String> {
    let mut files = Vec::new();
    list_files(root, &mut files);
    let mut faults = Vec::new();
    let mut checked = 0;
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_owned();
        let name = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        // main.rs of the relay is another crate: it sees what the library makes public.
        if ["lib", "main"].contains(&name.as_str()) {
            continue;
        }
        let code = without_comments_and_texts(&fs::read_to_string(&file).unwrap());
        let found = check(&name, module_depth(&path), &code, is_test_file(&path));
        faults.extend(found.into_iter().map(|fault| format!("{shown_as}/{}: {fault}", path.display())));
        checked += 1;
    }
    assert!(checked > 20, "only {checked} files checked");
    faults
}

#[test]
fn the_loop_knows_no_interface_of_the_kernel() {
    let rim = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rim");
    let mut files = Vec::new();
    list_files(&rim, &mut files);
    files.retain(|file| {
        !["uring", "epoll"].iter().any(|driver| file.starts_with(rim.join(driver)))
            && !is_test_file(file.strip_prefix(&rim).unwrap())
    });
    assert!(files.len() > 8, "{files:?}");
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let code = without_test_modules(&without_comments_and_texts(&fs::read_to_string(file).unwrap()));
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            kernel_interfaces_named(&code).into_iter().map(move |word| format!("{name} names {word}"))
        })
        .collect();
    // `mod.rs` declares the drivers' folders.
    assert_eq!(faults, ["mod.rs names epoll", "mod.rs names uring"]);
}

/// Words that only a driver may say.
fn kernel_interfaces_named(code: &str) -> Vec<String> {
    let drivers_own = ["io_uring", "libc", "uring", "RingDriver", "epoll", "EpollDriver", "unsafe"];
    words(code).into_iter().filter(|word| drivers_own.contains(&word.as_str())).collect()
}

/// The modules of lib.rs with their floors, in order.
#[derive(Debug)]
struct Modules(Vec<(String, u32)>);

impl Modules {
    fn read(lib: &str) -> Self {
        let mut floor = 0;
        let mut modules = Vec::new();
        for line in lib.lines() {
            if let Some(number) = line.strip_prefix("// Floor ") {
                floor = number.split(':').next().unwrap().parse().unwrap();
            } else if let Some(name) = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")) {
                modules.push((name.trim_end_matches(';').to_owned(), floor));
            }
        }
        Self(modules)
    }

    fn place(&self, name: &str) -> Option<(usize, u32)> {
        let place = self.0.iter().position(|(module, _)| module == name)?;
        Some((place, self.0[place].1))
    }

    /// What is wrong with a file of module `name` whose own module is `depth` below the crate. `code` has no comments and
    /// texts any more.
    fn faults(&self, name: &str, depth: usize, code: &str, strangers: &[u32]) -> Vec<String> {
        let Some((place, floor)) = self.place(name) else {
            return vec![format!("{name} is not in the list")];
        };
        let mut faults = Vec::new();
        for target in crate_modules_used(code, depth) {
            // Names that are no modules are macros and the like.
            let Some((target_place, target_floor)) = self.place(&target) else { continue };
            if target_floor > floor {
                faults.push(format!(
                    "{name} (floor {floor}) uses {target} (floor {target_floor}): an arrow up"
                ));
            } else if target_floor == floor && target != name {
                if strangers.contains(&floor) {
                    faults
                        .push(format!("{name} uses its sibling {target} (floor {floor}): an arrow sideways"));
                } else if target_place > place {
                    faults.push(format!("{name} uses {target}, which stands below it on floor {floor}"));
                }
            }
        }
        faults
    }

    /// The names of the outside world in a file of module `name`, if it belongs to the core.
    fn outside_world_in_core(&self, name: &str, code: &str, is_test: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let Some((_, floor)) = self.place(name) else { return faults };
        if floor <= CORE_FLOOR_MAX && !is_test {
            let words = words(&without_test_modules(code));
            if name != DOOR && words.iter().any(|word| word == JSON_PARSER) {
                faults.push(format!("{name} reads JSON; behind {DOOR} only values travel"));
            }
            let std_modules = words.windows(2).enumerate().filter(|(_, pair)| *pair == ["std", "::"]);
            let mut named = Vec::new();
            std_modules.for_each(|(index, _)| first_segments(&words[index + 2..], &mut named));
            named.retain(|module| FORBIDDEN_STD_MODULES.contains(&module.as_str()));
            let code = words.join(" ").replace(" :: ", "::");
            let names = FORBIDDEN_NAMES.iter().filter(|name| contains_path(&code, name));
            named.extend(names.map(|name| (*name).to_owned()));
            faults.extend(named.iter().map(|name| format!("{name} is not for the core (floor {floor})")));
        }
        faults
    }
}

/// `wire/frame/header.rs` is 3 below the crate, `wire/mod.rs` and `wire.rs` are 1.
fn module_depth(path: &Path) -> usize {
    let parts = path.components().count();
    if path.ends_with("mod.rs") { parts - 1 } else { parts }
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; the root of the crate is the empty path.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<_> =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    path.pop_if(|last| ["mod", "main", "lib"].contains(&last.as_str()));
    path
}

/// Which files each of `sources`, by the path of its module, uses: the files in which what it names by `crate::…`, `super::…`,
/// `self::…` or the name of its own submodule is written. The root of the crate, which lists everything, is left out.
fn files_used(sources: &BTreeMap<Vec<String>, String>) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let used_by = |(own, code): (&Vec<String>, &String)| {
        let words = words(code);
        let mut named = Vec::new();
        let mut rest = &words[..];
        let mut before = "";
        while let [word, after @ ..] = rest {
            let begins_path = before != "::" && after.first().is_some_and(|next| next == "::");
            let submodule = [&own[..], std::slice::from_ref(word)].concat();
            let base = match word.as_str() {
                _ if !begins_path => None,
                "crate" => Some((Vec::new(), &after[1..])),
                "self" => Some((own.clone(), &after[1..])),
                "super" => Some((own[..own.len().saturating_sub(1)].to_vec(), &after[1..])),
                _ if sources.contains_key(&submodule) => Some((own.clone(), rest)),
                _ => None,
            };
            before = word;
            rest = match base {
                Some((base, path)) => expand_path(path, &base, &mut named),
                None => after,
            };
        }
        let file_of = |path: Vec<String>| {
            (1..=path.len()).rev().map(|end| path[..end].to_vec()).find(|path| sources.contains_key(path))
        };
        let files = named.into_iter().filter_map(file_of).filter(|file| file != own);
        (own.clone(), files.collect())
    };
    sources.iter().filter(|(own, _)| !own.is_empty()).map(used_by).collect()
}

/// Adds every path that begins at `words` and continues `base`: one, or each of a `{…}` group. Returns what follows.
fn expand_path<'a>(words: &'a [String], base: &[String], paths: &mut Vec<Vec<String>>) -> &'a [String] {
    let mut path = base.to_vec();
    let mut rest = words;
    loop {
        match rest {
            [super_, colons, after @ ..] if super_ == "super" && colons == "::" => {
                path.pop();
                rest = after;
            }
            [brace, after @ ..] if brace == "{" => {
                rest = after;
                while rest.first().is_some_and(|word| word != "}") {
                    rest = expand_path(rest, &path, paths);
                    rest = rest.strip_prefix(&[",".to_owned()]).unwrap_or(rest);
                }
                return rest.get(1..).unwrap_or_default();
            }
            [segment, colons, after @ ..] if colons == "::" => {
                path.push(segment.clone());
                rest = after;
            }
            [last, after @ ..] => {
                path.push(last.clone());
                paths.push(path);
                let renamed = after.first().is_some_and(|word| word == "as");
                return if renamed { &after[2..] } else { after };
            }
            [] => return rest,
        }
    }
}

/// The files that can be come back to by what they use.
fn files_in_circles(mut uses: BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> BTreeSet<String> {
    loop {
        let remaining: BTreeSet<_> = uses.keys().cloned().collect();
        // A file that uses none, or is used by none, is in no circle.
        let used: BTreeSet<_> = uses.values().flatten().cloned().collect();
        uses.values_mut().for_each(|files| files.retain(|file| remaining.contains(file)));
        uses.retain(|file, files| !files.is_empty() && used.contains(file));
        if uses.len() == remaining.len() {
            return remaining.iter().map(|path| path.join("::")).collect();
        }
    }
}

fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| {
        let part = part.to_str().unwrap().trim_end_matches(".rs");
        part == "tests" || part.ends_with("_tests")
    })
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// Modules of the crate that are named by `crate::…` or by enough `super::…`, in `use` or inline.
fn crate_modules_used(code: &str, depth: usize) -> Vec<String> {
    let words = words(code);
    let mut used = Vec::new();
    // Depth of braces at which inline modules were opened.
    let mut inline_modules = Vec::new();
    let mut braces = 0;
    let mut index = 0;
    while index < words.len() {
        match words[index].as_str() {
            "{" => {
                let opens_module = index >= 2 && words[index - 2] == "mod";
                braces += 1;
                if opens_module {
                    inline_modules.push(braces);
                }
            }
            "}" => {
                inline_modules.pop_if(|opened_at| *opened_at == braces);
                braces -= 1;
            }
            "crate" if words.get(index + 1).is_some_and(|word| word == "::") => {
                first_segments(&words[index + 2..], &mut used);
            }
            "super" => {
                let mut supers = 1;
                while words[index + 1..].starts_with(&["::".into(), "super".into()]) {
                    supers += 1;
                    index += 2;
                }
                if supers >= depth + inline_modules.len() {
                    first_segments(&words[index + 2..], &mut used);
                }
            }
            _ => {}
        }
        index += 1;
    }
    used
}

/// The first segment of a path, or of each path of a `{…}` group.
fn first_segments(words: &[String], segments: &mut Vec<String>) {
    if words.first().is_none_or(|word| word != "{") {
        segments.extend(words.first().cloned());
        return;
    }
    let mut braces = 0;
    let mut is_first = false;
    for word in words {
        match word.as_str() {
            "{" => {
                braces += 1;
                is_first = braces == 1;
            }
            "}" if braces == 1 => return,
            "}" => braces -= 1,
            "," => is_first = braces == 1,
            segment if is_first => {
                segments.push(segment.to_owned());
                is_first = false;
            }
            _ => {}
        }
    }
}

/// Identifiers, `::`, and every other character that is not blank by itself.
fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        let length = match first {
            _ if is_word(first) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    words
}

/// Whether `path` occurs in the code, not as a part of a longer word.
fn contains_path(code: &str, path: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(path).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + path.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Cuts out `#[cfg(test)] mod … { … }`.
fn without_test_modules(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept += before;
        let end_of_item = after.find(['{', ';']).unwrap_or(after.len());
        if after[end_of_item..].starts_with(';') {
            rest = &after[end_of_item..];
            continue;
        }
        let mut braces = 0;
        let end = after.find(|letter| {
            braces += i32::from(letter == '{') - i32::from(letter == '}');
            letter == '}' && braces == 0
        });
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    kept + rest
}

/// Blanks instead of comments, and empty texts instead of texts.
fn without_comments_and_texts(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = raw_text_length(rest) {
            code.push_str("\"\"");
            raw
        } else if next == '"' {
            code.push_str("\"\"");
            text_length(rest)
        } else if let Some(length) = character_length(rest) {
            code.push_str("' '");
            length
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

fn raw_text_length(rest: &str) -> Option<usize> {
    let start = rest.strip_prefix("r").or_else(|| rest.strip_prefix("br"))?;
    let hashes = start.bytes().take_while(|byte| *byte == b'#').count();
    start[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = rest.len() - start.len() + hashes + 1;
    Some(opening + rest[opening..].find(&end)? + end.len())
}

fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (index, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'x'` and `'\n'`, but not the `'a` of a lifetime.
fn character_length(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        return Some(2 + inner.get(2..)?.find('\'')? + 2);
    }
    let letter = inner.chars().next()?;
    inner[letter.len_utf8()..].starts_with('\'').then_some(letter.len_utf8() + 2)
}
mod checker;
