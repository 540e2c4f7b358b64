use serde_json::json;

use super::*;

#[test]
fn labels_match_as_kubectl_says() {
    let object = json!({"metadata": {"labels": {"a": "b", "n": "5", "photoncloud.dev/cluster": "c"}}});
    for (text, fits) in [
        ("", true),
        ("a=b", true),
        ("a==b", true),
        ("a!=b", false),
        ("missing!=b", true),
        ("a", true),
        ("!a", false),
        ("!missing", true),
        ("a in (x,b)", true),
        ("a in (x, y)", false),
        ("a notin (x,y)", true),
        ("missing notin (x)", true),
        ("n>4", true),
        ("n<5", false),
        ("a=b,n=5", true),
        ("a=b,n=6", false),
        ("photoncloud.dev/cluster=c", true),
        ("a=", false),
        ("missing", false),
    ] {
        let selector = LabelSelector::parse(text).expect(text);
        assert_eq!(selector.matches(&object), fits, "{text}");
        assert_eq!(selector.is_everything(), text.is_empty());
    }
    for text in ["a=b,", "=b", "a in b", "a>x", "a b", "A B=c", "a=b c", "-a", "a in (b"] {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn fields_match_and_unknown_fields_are_named() {
    let kinds = crate::schema::builtin();
    let secret = kinds.iter().find(|kind| kind.kind == "Secret").expect("secret");
    let version = secret.storage();
    let object = json!({"metadata": {"name": "x", "namespace": "ns"}, "type": "Opaque"});
    for (text, fits) in [
        ("", true),
        ("metadata.name=x", true),
        ("metadata.name==x,metadata.namespace=ns", true),
        ("metadata.name!=x", false),
        ("type=Opaque", true),
        ("type=", false),
        (r"type=a\,b", false),
    ] {
        assert_eq!(FieldSelector::parse(text, secret, version).expect(text).matches(&object), fits, "{text}");
    }
    let parse = |text| FieldSelector::parse(text, secret, version).expect_err(text).to_string();
    assert_eq!(parse("spec.host=a"), "field label not supported: spec.host");
    assert_eq!(parse("x"), "invalid selector: 'x'; can't understand 'x'");
    assert_eq!(FieldSelector::parse("metadata.name=x", secret, version).expect("name").name(), Some("x"));
}
