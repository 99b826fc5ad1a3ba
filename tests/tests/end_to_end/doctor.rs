//! `kiln doctor`.

use kiln_tests::{Engine, Room};
use serde_json::Value;

#[test]
fn findings_for_programs() {
    let outcome = Room::new().kiln().args(["doctor", "--json"]).run().succeeds();
    let findings: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let engines = findings["engines"].as_array().expect("a list");
    let tcg = engines
        .iter()
        .find(|engine| engine["name"] == Engine::Tcg.doctors_name())
        .expect("emulation is always looked at");
    assert_eq!(tcg["usable"], true, "{findings:#}");
    for file in ["kernel", "agent"] {
        assert!(findings[file]["path"].is_string(), "{findings:#}");
    }
}

#[test]
fn a_missing_qemu_is_mended_by_an_exact_command() {
    let kiln = Room::new().kiln().args(["doctor", "--json"]).env("KILN_QEMU", "/nonexistent/qemu");
    let outcome = kiln.run();
    let findings: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let engines = findings["engines"].as_array().expect("a list");
    let tcg =
        engines.iter().find(|engine| engine["name"] == Engine::Tcg.doctors_name()).expect("it is listed");
    assert_eq!(tcg["usable"], false);
    assert!(tcg["remedy"].as_str().is_some_and(|remedy| remedy.contains("install")), "{tcg}");
}
