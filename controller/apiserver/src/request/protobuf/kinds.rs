//! The messages of the built-in kinds, laid out as in Kubernetes' `generated.proto` files.
//!
//! Statuses that only the server writes are left out.

use super::message::{
    Fields, bytes_map, flag, json, message, messages, micro_time, number, text, text_map, texts, texts_map, time,
};

/// The message of a kind; `None` when the kind is written in JSON or YAML only.
pub fn of(api_version: &str, kind: &str) -> Option<Fields> {
    Some(match (api_version, kind) {
        // Every group has them, and means the same.
        (_, "DeleteOptions") => DELETE_OPTIONS,
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "ConfigMap") => CONFIG_MAP,
        ("v1", "Secret") => SECRET,
        ("v1", "ServiceAccount") => SERVICE_ACCOUNT,
        ("v1", "Event") => CORE_EVENT,
        ("events.k8s.io/v1", "Event") => EVENT,
        ("coordination.k8s.io/v1", "Lease") => LEASE,
        ("rbac.authorization.k8s.io/v1", "Role") => ROLE,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => CLUSTER_ROLE,
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => BINDING,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => SELF_ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SubjectAccessReview" | "LocalSubjectAccessReview") => ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => RULES_REVIEW,
        ("authentication.k8s.io/v1", "SelfSubjectReview") => &[META],
        ("authentication.k8s.io/v1", "TokenReview") => TOKEN_REVIEW,
        ("authentication.k8s.io/v1", "TokenRequest") => TOKEN_REQUEST,
        _ => return None,
    })
}

const META: super::message::Field = message(1, "metadata", OBJECT_META).set();

const OBJECT_META: Fields = &[
    text(1, "name"),
    text(2, "generateName"),
    text(3, "namespace"),
    text(4, "selfLink"),
    text(5, "uid"),
    text(6, "resourceVersion"),
    number(7, "generation"),
    time(8, "creationTimestamp"),
    time(9, "deletionTimestamp"),
    number(10, "deletionGracePeriodSeconds").set(),
    text_map(11, "labels"),
    text_map(12, "annotations"),
    messages(13, "ownerReferences", OWNER_REFERENCE),
    texts(14, "finalizers"),
    messages(17, "managedFields", MANAGED_FIELDS),
];

const OWNER_REFERENCE: Fields = &[
    text(1, "kind"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    flag(6, "controller").set(),
    flag(7, "blockOwnerDeletion").set(),
];

const MANAGED_FIELDS: Fields = &[
    text(1, "manager"),
    text(2, "operation"),
    text(3, "apiVersion"),
    time(4, "time"),
    text(6, "fieldsType"),
    json(7, "fieldsV1"),
    text(8, "subresource"),
];

const DELETE_OPTIONS: Fields = &[
    number(1, "gracePeriodSeconds").set(),
    message(2, "preconditions", &[text(1, "uid").set(), text(2, "resourceVersion").set()]),
    flag(3, "orphanDependents").set(),
    text(4, "propagationPolicy").set(),
    texts(5, "dryRun"),
];

const NAMESPACE: Fields = &[META, message(2, "spec", &[texts(1, "finalizers")])];

const CONFIG_MAP: Fields = &[META, text_map(2, "data"), bytes_map(3, "binaryData"), flag(4, "immutable").set()];

const SECRET: Fields =
    &[META, bytes_map(2, "data"), text(3, "type"), text_map(4, "stringData"), flag(5, "immutable").set()];

const SERVICE_ACCOUNT: Fields = &[
    META,
    messages(2, "secrets", OBJECT_REFERENCE),
    messages(3, "imagePullSecrets", &[text(1, "name")]),
    flag(4, "automountServiceAccountToken").set(),
];

const OBJECT_REFERENCE: Fields = &[
    text(1, "kind"),
    text(2, "namespace"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    text(6, "resourceVersion"),
    text(7, "fieldPath"),
];

const EVENT_SOURCE: Fields = &[text(1, "component"), text(2, "host")];

const EVENT_SERIES: Fields = &[number(1, "count").set(), micro_time(2, "lastObservedTime")];

const CORE_EVENT: Fields = &[
    META,
    message(2, "involvedObject", OBJECT_REFERENCE).set(),
    text(3, "reason"),
    text(4, "message"),
    message(5, "source", EVENT_SOURCE),
    time(6, "firstTimestamp"),
    time(7, "lastTimestamp"),
    number(8, "count"),
    text(9, "type"),
    micro_time(10, "eventTime"),
    message(11, "series", EVENT_SERIES),
    text(12, "action"),
    message(13, "related", OBJECT_REFERENCE),
    text(14, "reportingComponent"),
    text(15, "reportingInstance"),
];

const EVENT: Fields = &[
    META,
    micro_time(2, "eventTime"),
    message(3, "series", EVENT_SERIES),
    text(4, "reportingController"),
    text(5, "reportingInstance"),
    text(6, "action"),
    text(7, "reason"),
    message(8, "regarding", OBJECT_REFERENCE),
    message(9, "related", OBJECT_REFERENCE),
    text(10, "note"),
    text(11, "type"),
    message(12, "deprecatedSource", EVENT_SOURCE),
    time(13, "deprecatedFirstTimestamp"),
    time(14, "deprecatedLastTimestamp"),
    number(15, "deprecatedCount"),
];

const LEASE: Fields = &[
    META,
    message(
        2,
        "spec",
        &[
            text(1, "holderIdentity").set(),
            number(2, "leaseDurationSeconds").set(),
            micro_time(3, "acquireTime"),
            micro_time(4, "renewTime"),
            number(5, "leaseTransitions").set(),
            text(6, "strategy"),
            text(7, "preferredHolder"),
        ],
    ),
];

const POLICY_RULE: Fields = &[
    texts(1, "verbs"),
    texts(2, "apiGroups"),
    texts(3, "resources"),
    texts(4, "resourceNames"),
    texts(5, "nonResourceURLs"),
];

const ROLE: Fields = &[META, messages(2, "rules", POLICY_RULE)];

const CLUSTER_ROLE: Fields = &[
    META,
    messages(2, "rules", POLICY_RULE),
    message(3, "aggregationRule", &[messages(1, "clusterRoleSelectors", LABEL_SELECTOR)]).set(),
];

const BINDING: Fields = &[
    META,
    messages(2, "subjects", &[text(1, "kind"), text(2, "apiGroup"), text(3, "name"), text(4, "namespace")]),
    message(3, "roleRef", &[text(1, "apiGroup"), text(2, "kind"), text(3, "name")]),
];

const REQUIREMENT: Fields = &[text(1, "key"), text(2, "operator"), texts(3, "values")];

const LABEL_SELECTOR: Fields = &[text_map(1, "matchLabels"), messages(2, "matchExpressions", REQUIREMENT)];

const SELECTION: Fields = &[text(1, "rawSelector"), messages(2, "requirements", REQUIREMENT)];

const RESOURCE_ATTRIBUTES: Fields = &[
    text(1, "namespace"),
    text(2, "verb"),
    text(3, "group"),
    text(4, "version"),
    text(5, "resource"),
    text(6, "subresource"),
    text(7, "name"),
    message(8, "fieldSelector", SELECTION).set(),
    message(9, "labelSelector", SELECTION).set(),
];

const NON_RESOURCE_ATTRIBUTES: Fields = &[text(1, "path"), text(2, "verb")];

const SELF_ACCESS_REVIEW: Fields = &[
    META,
    message(
        2,
        "spec",
        &[
            message(1, "resourceAttributes", RESOURCE_ATTRIBUTES).set(),
            message(2, "nonResourceAttributes", NON_RESOURCE_ATTRIBUTES).set(),
        ],
    )
    .set(),
];

const ACCESS_REVIEW: Fields = &[
    META,
    message(
        2,
        "spec",
        &[
            message(1, "resourceAttributes", RESOURCE_ATTRIBUTES).set(),
            message(2, "nonResourceAttributes", NON_RESOURCE_ATTRIBUTES).set(),
            text(3, "user"),
            texts(4, "groups"),
            texts_map(5, "extra"),
            text(6, "uid"),
        ],
    )
    .set(),
];

const RULES_REVIEW: Fields = &[META, message(2, "spec", &[text(1, "namespace")]).set()];

const TOKEN_REVIEW: Fields = &[META, message(2, "spec", &[text(1, "token"), texts(2, "audiences")]).set()];

const TOKEN_REQUEST: Fields = &[
    META,
    message(
        2,
        "spec",
        &[
            texts(1, "audiences"),
            message(3, "boundObjectRef", &[text(1, "kind"), text(2, "apiVersion"), text(3, "name"), text(4, "uid")])
                .set(),
            number(4, "expirationSeconds").set(),
        ],
    )
    .set(),
];
