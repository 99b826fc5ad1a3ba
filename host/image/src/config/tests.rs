use super::*;
use proptest::prelude::*;

const DIFF_ID: &str = "sha256:03797fe0d3ee711a82feb579cee47c3ca22eb536b523286fd1bd87b501d979e4";

fn parent() -> ImageConfig {
    let json = format!(
        r#"{{"architecture":"amd64","os":"linux","os.version":"6","docker_version":"20.10","container_config":{{"Cmd":["x"]}},
        "config":{{"Hostname":"","Env":["PATH=/bin","A=1"],"Cmd":["bash"],"Entrypoint":null,"OnBuild":["RUN x"],
            "Labels":{{"b":"1","a":"1"}},"Volumes":{{"/v":{{}}}}}},
        "rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}},"history":[{{"created_by":"a"}},{{"created_by":"b","empty_layer":true}}]}}"#
    );
    ImageConfig::parse(json.as_bytes()).unwrap()
}

fn change(config: &str) -> Change {
    Change {
        layer: Some(Digest::of(b"layer")),
        created: Timestamp::default(),
        created_by: "kiln build".to_owned(),
        comment: None,
        author: None,
        config: serde_json::from_str(config).unwrap(),
    }
}

#[test]
fn golden_child() {
    let child = parent().derive(change(
        r#"{"Env":["A=2","B=3"],"Entrypoint":["/e"],"Labels":{"c":"2","a":"2"},"Volumes":{"/w":{}},"User":"1:2"}"#,
    ));
    let layer = Digest::of(b"layer");
    let expected = format!(
        concat!(
            r#"{{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{{"User":"1:2","#,
            r#""Env":["PATH=/bin","A=2","B=3"],"Entrypoint":["/e"],"Volumes":{{"/v":{{}},"/w":{{}}}},"#,
            r#""Labels":{{"a":"2","b":"1","c":"2"}},"Hostname":""}},"#,
            r#""rootfs":{{"type":"layers","diff_ids":["{}","{}"]}},"#,
            r#""history":[{{"created_by":"a"}},{{"created_by":"b","empty_layer":true}},"#,
            r#"{{"created":"1970-01-01T00:00:00Z","created_by":"kiln build"}}],"os.version":"6"}}"#
        ),
        DIFF_ID, layer
    );
    assert_eq!(String::from_utf8(child.to_json()).unwrap(), expected);
    assert_eq!(ImageConfig::parse(&child.to_json()).unwrap(), child);
}

#[test]
fn a_command_is_forgotten_only_with_a_new_entry_point() {
    for (said, expected) in [
        ("{}", Some("bash")),
        (r#"{"Entrypoint":["/e"]}"#, None),
        (r#"{"Entrypoint":["/e"],"Cmd":["c"]}"#, Some("c")),
        (r#"{"Cmd":["c"]}"#, Some("c")),
    ] {
        let cmd = parent().derive(change(said)).config.cmd;
        assert_eq!(cmd.map(|words| words.join(" ")).as_deref(), expected, "{said}");
    }
}

#[test]
fn instructions_for_children_are_for_the_first_child_only() {
    assert_eq!(parent().derive(change("{}")).config.on_build, None);
    let child = parent().derive(change(r#"{"OnBuild":["RUN y"]}"#));
    assert_eq!(child.config.on_build.unwrap(), ["RUN y"]);
}

#[test]
fn a_change_without_a_layer_says_so_in_the_history() {
    let child = parent().derive(Change { layer: None, ..change("{}") });
    assert!(child.history.last().unwrap().empty_layer);
    assert_eq!(child.rootfs.diff_ids.len(), 1);
}

#[test]
fn layers_without_history_get_one() {
    let mut parent = parent();
    parent.history.clear();
    let made_by: Vec<_> =
        parent.derive(change("{}")).history.into_iter().map(|h| h.created_by.unwrap()).collect();
    assert_eq!(made_by, ["unknown", "kiln build"]);
}

#[test]
fn what_go_writes_for_nothing_is_nothing() {
    let config = br#"{"config":null,"rootfs":{"diff_ids":null},"history":null}"#;
    assert_eq!(ImageConfig::parse(config).unwrap(), ImageConfig::scratch("", ""));
    let config = br#"{"config":{"Cmd":"sh","Labels":null,"Env":null},"rootfs":{}}"#;
    assert_eq!(ImageConfig::parse(config).unwrap().config.cmd.unwrap(), ["sh"]);
}

#[test]
fn what_is_no_configuration_is_corrupt() {
    for json in
        ["", "[]", "{}", r#"{"rootfs":{"diff_ids":["sha256:1"]}}"#, r#"{"rootfs":{},"config":{"Env":"A=b"}}"#]
    {
        let error = ImageConfig::parse(json.as_bytes()).unwrap_err();
        assert!(error.is_corrupt(), "{json}");
        assert_eq!(error.to_string(), "image configuration is corrupt: it does not parse");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ImageConfig::parse(&bytes);
    }
}
