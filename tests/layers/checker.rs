//! The check itself can fail.

use super::*;

fn modules() -> Modules {
    Modules::read(
        "// Floor 1: words.\npub mod ids;\npub mod time;\n// Floor 3: two.\npub mod room;\npub mod session;\n\
         // Floor 4: one.\npub mod shard;\n// Floor 7: assembly.\n#[cfg(x)]\npub mod config;\npub mod server;\n",
    )
}

fn faults(name: &str, code: &str) -> Vec<String> {
    let code = without_comments_and_texts(code);
    let mut faults = modules().faults(name, 1, &code, FLOORS_OF_STRANGERS);
    faults.extend(modules().outside_world_in_core(name, &code, false));
    faults
}

#[test]
fn lib_is_read_with_its_floors() {
    assert_eq!(modules().place("session"), Some((3, 3)));
    assert_eq!(modules().place("server"), Some((6, 7)));
}

#[test]
fn arrows_down_are_allowed() {
    let code = "use crate::ids::{A, B};\nuse crate::{time, room::Room};\nfn f() { crate::session::g() }";
    assert_eq!(faults("shard", code), Vec::<String>::new());
    assert_eq!(faults("server", "use crate::config::Config;"), Vec::<String>::new());
    assert_eq!(faults("time", "use crate::ids::A;"), Vec::<String>::new());
}

#[test]
fn arrows_up_and_sideways_are_found_wherever_they_hide() {
    for (name, code) in [
        ("ids", "use crate::shard::Shard;"),
        ("ids", "use crate::{ids::Id, shard::{Shard, peer}};"),
        ("ids", "fn f() -> crate ::\n shard::Shard { todo!() }"),
        ("ids", "use super::shard::Shard;"),
        ("ids", "mod tests { use super::super::shard::Shard; }"),
        ("ids", "fn f() { let x = '\"'; crate::shard::g('{', \"\\\"\") }"),
        ("ids", "use crate::time::Now;"),
        ("room", "use crate::session::Session;"),
        ("session", "use crate::room::Room;"),
        ("config", "use crate::server::run;"),
    ] {
        assert_eq!(faults(name, code).len(), 1, "{name}: {code}");
    }
}

#[test]
fn files_that_use_each_other_are_found_however_many_stand_between() {
    let circle = |files: &[(&str, &str)]| {
        let sources = files.iter().map(|(file, code)| (module_path(Path::new(file)), (*code).to_owned()));
        files_in_circles(files_used(&sources.collect())).into_iter().collect::<Vec<_>>()
    };
    let (main, b) = (("main.rs", "mod a; mod b; use a::f;"), ("b.rs", "use crate::c::{d::X as Y, e::Z,};"));
    assert_eq!(circle(&[main, ("a.rs", "use crate::b::f;"), b, ("c/d.rs", "struct X;")]), [""; 0]);
    assert_eq!(
        circle(&[main, ("a.rs", "use crate::{b::f};"), b, ("c/d.rs", "super::super::a::f()")]),
        ["a", "b", "c::d"]
    );
    // A parent that uses its child, and the child something of the parent's own or of its sibling's.
    let parent = ("a.rs", "mod b; mod c; pub use b::X;");
    assert_eq!(circle(&[parent, ("a/b.rs", "use super::Y;")]), ["a", "a::b"]);
    assert_eq!(circle(&[parent, ("a/b.rs", "use super::c::Y;"), ("a/c.rs", "")]), [""; 0]);
    assert_eq!(circle(&[("a.rs", "use crate::a::f; f(self::f)")]), [""; 0]);
}

#[test]
fn comments_texts_and_own_items_are_no_arrows() {
    for code in [
        "// use crate::shard::Shard;",
        "/* crate::shard::x */",
        "const A: &str = \"crate::shard::x\";",
        "const A: &str = r#\"\"crate::shard::x\"#;",
        "mod tests { use super::shard; }",
        "fn f<'a>(x: &'a str) { crate::ids::g(x) }",
    ] {
        assert_eq!(faults("ids", code), Vec::<String>::new(), "{code}");
    }
}

#[test]
fn a_file_further_down_needs_more_supers() {
    let code = "use super::super::shard::Shard;";
    assert_eq!(modules().faults("ids", 2, code, FLOORS_OF_STRANGERS).len(), 1);
    assert_eq!(modules().faults("ids", 3, code, FLOORS_OF_STRANGERS).len(), 0);
    assert_eq!(module_depth(Path::new("wire/frame/header.rs")), 3);
    assert_eq!(module_depth(Path::new("wire/mod.rs")), 1);
    assert_eq!(module_depth(Path::new("ids.rs")), 1);
}

#[test]
fn the_core_does_not_touch_the_world() {
    for code in [
        "use std::net::{IpAddr, TcpStream};",
        "fn f() { std::thread::sleep(d) }",
        "fn f() { let now = Instant::now(); }",
        "use std::sync::{Arc, Mutex};",
        "use std::{fmt, fs::File};",
        "fn f() { println!(\"x\") }",
        "#[cfg(test)] mod tests { fn f() {} } fn g() { std::fs::read(p); }",
    ] {
        assert_eq!(faults("shard", code).len(), 1, "{code}");
        assert_eq!(faults("server", code), Vec::<String>::new(), "{code}");
    }
    let fine =
        "use std::networks; struct MutexLike; #[cfg(test)] mod tests { fn f() { println!(\"{}\", 1) } }";
    assert_eq!(faults("shard", fine), Vec::<String>::new());
}

#[test]
fn json_is_read_at_the_door_only() {
    let code = "fn f(json: &str) { serde_json::from_str::<u64>(json); }";
    assert_eq!(faults("room", code), ["room reads JSON; behind wire only values travel"]);
    let tests = format!("#[cfg(test)] mod tests {{ {code} }}");
    assert_eq!((faults("server", code), faults("room", &tests)), Default::default());
}

#[test]
fn a_loop_that_names_its_driver_is_found() {
    let code =
        without_comments_and_texts("// uring\nuse super::uring::RingDriver;\nfn f() -> X { unsafe { g() } }");
    assert_eq!(kernel_interfaces_named(&code), ["uring", "RingDriver", "unsafe"]);
}

#[test]
fn a_module_that_lib_does_not_list_is_a_fault() {
    assert_eq!(faults("stray", ""), ["stray is not in the list"]);
}
