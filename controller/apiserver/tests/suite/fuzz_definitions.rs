//! Any definition, whatever rules it carries, is compiled or refused; and no object makes its rules cost too much.

use std::time::Instant;

use apiserver::schema::Definition;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::fuzz::{LONGEST, full_widget, nearly, runner};
use crate::lab::widget_crd;

fn rule() -> impl Strategy<Value = String> {
    let token = select(
        [
            "self",
            "oldSelf",
            ".size",
            ".note",
            "[0]",
            "(",
            ")",
            " + ",
            " - ",
            " * ",
            " / ",
            " % ",
            " && ",
            " || ",
            " == ",
            " < ",
            " in ",
            "!",
            "-",
            "1",
            "0",
            "9223372036854775807",
            "1.5",
            "'x'",
            "\"\\u{1F600}\"",
            "b'\\xff'",
            "[]",
            "[1, 2]",
            "{}",
            "{'a': 1}",
            " ? ",
            " : ",
            ".map(x, x)",
            ".all(x, x > 1)",
            ".exists_one(x, true)",
            ".matches('(a+)+$')",
            "size(self.note)",
            "string(1)",
            "int('x')",
            "duration('1s')",
            "timestamp('2020-01-01T00:00:00Z')",
            "has(self.note)",
            "self.list.map(x, self.list.map(y, x + y))",
            ".replace('', 'xx')",
            ".split('')",
            "quantity('1Gi')",
            "\u{e9}",
        ]
        .as_slice(),
    );
    prop_oneof![
        4 => proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat()),
        1 => "\\PC{0,40}",
        1 => (1usize..4000).prop_map(|deep| format!("{}1{} == 1", "(".repeat(deep), ")".repeat(deep))),
        1 => (1usize..4000).prop_map(|deep| format!("{}true", "!".repeat(deep))),
    ]
}

#[test]
fn any_definition_and_rule_is_compiled_or_refused_and_no_object_is_too_much() {
    let mut crd = widget_crd();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    crd.pointer_mut(spec).unwrap()["properties"]["list"] = json!({"type": "array", "items": {"type": "string"}});
    let documents = prop_oneof![
        3 => rule().prop_map({
            let crd = crd.clone();
            move |rule| {
                let mut crd = crd.clone();
                crd.pointer_mut(spec).unwrap()["x-kubernetes-validations"] = json!([{"rule": rule}]);
                crd
            }
        }),
        1 => nearly(crd),
    ];
    let mut object = full_widget();
    object["spec"]["list"] = (0..100).map(|n| n.to_string()).collect();
    let objects = nearly(object).boxed();
    let ran = runner(300).run(&(documents, objects.clone(), objects), |(document, new, old)| {
        let began = Instant::now();
        if let Ok(definition) = Definition::from_crd(&document) {
            let schema = &definition.storage().schema;
            let mut new = new;
            schema.prune(&mut new);
            schema.default(&mut new);
            let _ = schema.validate(&new, Some(&old));
        }
        prop_assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
        Ok(())
    });
    assert!(ran.is_ok(), "{ran:?}");
}
