use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn schema(document: Value) -> Schema {
    compile(&document, "spec.validation.openAPIV3Schema").expect("schema compiles")
}

/// A schema whose `spec.x` is the given one.
fn with_x(x: Value) -> Schema {
    schema(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": x}}}}))
}

fn said(x: Value, value: Value) -> Vec<String> {
    with_x(x).validate(&json!({"spec": {"x": value}}), None).iter().map(ToString::to_string).collect()
}

#[test]
fn every_check_speaks_as_the_official_server() {
    for (x, good, bad, text) in [
        (
            json!({"type": "integer"}),
            json!(1),
            json!("a"),
            r#"spec.x: Invalid value: "string": spec.x in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "integer"}),
            json!(1.0),
            json!(1.5),
            r#"spec.x: Invalid value: "number": spec.x in body must be of type integer: "number""#,
        ),
        (
            json!({"type": "string"}),
            json!("a"),
            json!(1),
            r#"spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "boolean"}),
            json!(true),
            json!({}),
            r#"spec.x: Invalid value: "object": spec.x in body must be of type boolean: "object""#,
        ),
        (
            json!({"type": "object"}),
            json!({}),
            json!([]),
            r#"spec.x: Invalid value: "array": spec.x in body must be of type object: "array""#,
        ),
        (
            json!({"type": "string", "nullable": true}),
            json!(null),
            json!(true),
            r#"spec.x: Invalid value: "boolean": spec.x in body must be of type string: "boolean""#,
        ),
        (
            json!({"type": "string"}),
            json!(""),
            json!(null),
            r#"spec.x: Invalid value: "null": spec.x in body must be of type string: "null""#,
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!("5%"),
            json!(true),
            r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("a"),
            json!("x"),
            r#"spec.x: Unsupported value: "x": supported values: "a", "b""#,
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(1),
            json!(0),
            "spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(2),
            json!(1),
            "spec.x: Invalid value: 1: spec.x in body should be greater than 1",
        ),
        (
            json!({"type": "integer", "maximum": 4.0}),
            json!(4),
            json!(5),
            "spec.x: Invalid value: 5: spec.x in body should be less than or equal to 4",
        ),
        (
            json!({"type": "number", "multipleOf": 0.5}),
            json!(1.5),
            json!(1.2),
            "spec.x: Invalid value: 1.2: spec.x in body should be a multiple of 0.5",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("äö"),
            json!("ä"),
            r#"spec.x: Invalid value: "ä": spec.x in body should be at least 2 chars long"#,
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äö"),
            json!("abc"),
            "spec.x: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("aa"),
            json!("b"),
            r#"spec.x: Invalid value: "b": spec.x in body should match '^a+$'"#,
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("2024-01-01T00:00:00Z"),
            json!("x"),
            r#"spec.x: Invalid value: "x": spec.x in body must be of type date-time: "x""#,
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a"]),
            json!(["a", "b"]),
            "spec.x: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!(["a"]),
            json!([]),
            "spec.x: Invalid value: 0: spec.x in body should have at least 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a"]),
            json!([1]),
            r#"spec.x[0]: Invalid value: "integer": spec.x[0] in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": "v"}),
            json!({"k": 1}),
            r#"spec.x.k: Invalid value: "integer": spec.x.k in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "object", "properties": {"y": {"type": "string"}}, "required": ["y"]}),
            json!({"y": ""}),
            json!({}),
            "spec.x.y: Required value",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
            json!(["a", "b"]),
            json!(["a", "a"]),
            r#"spec.x[1]: Duplicate value: "a""#,
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                   "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}}}}),
            json!([{"n": "a"}, {"n": "b"}]),
            json!([{"n": "a"}, {"n": "a"}]),
            r#"spec.x[1]: Duplicate value: {"n":"a"}"#,
        ),
        (
            json!({"type": "integer", "not": {"enum": [3]}}),
            json!(1),
            json!(3),
            r#"spec.x: Invalid value: "": spec.x in body must not validate the schema (not)"#,
        ),
    ] {
        assert_eq!(said(x.clone(), good), [""; 0], "{x}");
        assert_eq!(said(x.clone(), bad), [text], "{x}");
    }
}

#[test]
fn alternatives_are_counted() {
    let one = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                     "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(said(one.clone(), json!({"a": ""})), [""; 0]);
    let none =
        r#"spec.x: Invalid value: "": spec.x in body must validate one and only one schema (oneOf). Found none valid"#;
    assert_eq!(said(one.clone(), json!({}))[0], none);
    let two = r#"spec.x: Invalid value: "": spec.x in body must validate one and only one schema (oneOf). Found 2 valid alternatives"#;
    assert_eq!(said(one, json!({"a": "", "b": ""})), [two]);
    let any = json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^[0-9]+$"});
    assert_eq!(said(any.clone(), json!("5")), [""; 0]);
    assert_eq!(said(any, json!("x")).len(), 1);
}

#[test]
fn what_was_wrong_and_did_not_change_passes_an_update() {
    let schema = with_x(
        json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 3}, "b": {"type": "integer", "maximum": 3}}}),
    );
    let old = json!({"spec": {"x": {"a": 9, "b": 1}}});
    let wrong = |b: i64| schema.validate(&json!({"spec": {"x": {"a": 9, "b": b}}}), Some(&old)).len();
    assert_eq!(wrong(2), 0);
    assert_eq!(wrong(8), 1);
}

#[test]
fn rules_wait_for_a_sound_shape() {
    let schema = with_x(json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}},
                               "x-kubernetes-validations": [{"rule": "self.a > 1"}]}));
    let said: Vec<String> =
        schema.validate(&json!({"spec": {"x": {}}}), None).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.x.a: Required value",
            "<nil>: Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
}

#[test]
fn defaults_fill_what_is_absent_and_unknown_fields_go() {
    let schema = with_x(json!({"type": "object", "default": {}, "properties": {
        "a": {"type": "integer", "default": 1}, "n": {"type": "string", "nullable": true, "default": "d"},
        "l": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "tcp"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"in": {"type": "object"}}},
        "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "string"}}}},
    }}));
    let mut object = json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "odd": 1}, "spec": {}});
    schema.default(&mut object);
    assert_eq!(object["spec"], json!({"x": {"a": 1, "n": "d"}}));
    let mut object = json!({
        "odd": 1, "metadata": {"odd": 1},
        "spec": {"y": 1, "x": {"a": null, "n": null, "l": [{"q": 1}], "free": {"z": 1, "in": {"gone": 1}}, "m": {"k1": {"k": "v", "w": 1}}}},
    });
    assert_eq!(schema.prune(&mut object), ["odd", "spec.y", "spec.x.free.in.gone", "spec.x.l[0].q", "spec.x.m.k1.w"]);
    schema.default(&mut object);
    assert_eq!(
        object,
        json!({
            "metadata": {"odd": 1},
            "spec": {"x": {"a": 1, "n": null, "l": [{"p": "tcp"}], "free": {"z": 1, "in": {}}, "m": {"k1": {"k": "v"}}}},
        })
    );
}

#[test]
fn what_is_not_structural_is_refused_by_place() {
    let place = "spec.validation.openAPIV3Schema";
    for (document, text) in [
        (json!({"type": "string"}), format!("{place}.type: Invalid value: \"string\": must be object at the root")),
        (json!({}), format!("{place}.type: Required value: must not be empty at the root")),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            format!("{place}.properties[a].type: Required value: must not be empty for specified object fields"),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array"}}}),
            format!("{place}.properties[a].items: Required value: must be specified"),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "text"}}}),
            format!(
                "{place}.properties[a].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""
            ),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            format!(
                "{place}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"
            ),
        ),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#/b", "type": "string"}}}),
            format!("{place}.properties[a].$ref: Forbidden: $ref is not supported"),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "default": 1}}}),
            format!(
                "{place}.properties[a].default: Invalid value: \"integer\":  in body must be of type string: \"integer\""
            ),
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            format!(
                "{place}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
            ),
        ),
    ] {
        let errors = compile(&document, place).expect_err("refused");
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    }
    let mut deep = json!({"type": "object"});
    for _ in 0..70 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    assert!(compile(&deep, place).expect_err("deep")[0].detail.contains("deeper than 64 levels"));
    let bad = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}});
    assert!(compile(&bad, place).expect_err("pattern")[0].detail.contains("must be a valid regular expression"));
}

#[test]
fn hostile_objects_are_refused_briefly() {
    let schema = with_x(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}));
    let many: Vec<Value> = (0..100_000).map(Value::from).collect();
    assert_eq!(schema.validate(&json!({"spec": {"x": many}}), None).len(), 128);
    let mut unknown = json!({"spec": {"x": []}});
    for n in 0..10_000 {
        unknown[format!("k{n}")] = Value::Null;
    }
    assert_eq!(schema.prune(&mut unknown).len(), 64);
    assert_eq!(unknown, json!({"spec": {"x": []}}));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:/.-]{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("spec".to_owned()),
        Just("x".to_owned()),
        Just("metadata".to_owned()),
        Just("versions".to_owned()),
        Just("type".to_owned()),
        Just("properties".to_owned()),
        Just("names".to_owned()),
        "[a-z]{1,3}",
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_object_is_handled_and_settles_at_once(object in any_json(), old in any_json()) {
        for definition in crate::schema::builtin() {
            let schema = &definition.storage().schema;
            let mut once = object.clone();
            schema.prune(&mut once);
            schema.default(&mut once);
            let mut twice = once.clone();
            prop_assert_eq!(schema.prune(&mut twice), Vec::<String>::new());
            schema.default(&mut twice);
            prop_assert_eq!(&once, &twice);
            schema.validate(&once, Some(&old));
            schema.validate(&object, None);
            crate::schema::metadata::validate_metadata_update(&definition, &object, &old);
        }
    }

    #[test]
    fn any_document_is_compiled_or_refused(document in any_json()) {
        let _ = crate::schema::crd::compile_builtin(&document);
        let _ = compile(&document, "spec");
    }
}
