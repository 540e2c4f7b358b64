//! Schemas of what every object has: metadata, options, Status.

use serde_json::{Map, Value, json};

use super::META;

pub(super) const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should \
     convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
pub(super) const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this \
     from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
pub(super) const METADATA: &str = "Standard object's metadata. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
pub(super) const LIST_METADATA: &str = "Standard list metadata. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The schema behind `/scale`.
pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// A described reference; version 2 allows a description beside `$ref`, version 3 only around it.
pub(super) fn reference(target: &str, description: &str, v3: bool) -> Value {
    if v3 {
        json!({"description": description, "allOf": [{"$ref": target}], "default": {}})
    } else {
        json!({"description": description, "$ref": target})
    }
}

/// All of them, by name.
pub(super) fn schemas(locate: &dyn Fn(&str) -> String, v3: bool) -> Map<String, Value> {
    let own = |name: &str| locate(&format!("{META}.{name}"));
    let refer = |name: &str, description: &str| reference(&own(name), description, v3);
    let list_of = |name: &str| json!({"$ref": own(name)});
    let mut all = Map::new();
    let mut add = |name: &str, schema: Value| {
        all.insert(format!("{META}.{name}"), schema);
    };
    object_schemas(&mut add, &refer, &list_of);
    option_schemas(&mut add, &refer);
    status_schemas(&mut add, &refer, &list_of);
    all
}

/// The schema of a Scale, for group versions that have one.
pub(super) fn scale(locate: &dyn Fn(&str) -> String, v3: bool) -> Value {
    let metadata = reference(&locate(&format!("{META}.ObjectMeta")), METADATA, v3);
    let count = |description: &str| json!({"type": "integer", "format": "int32", "description": description});
    let spec = object(
        "ScaleSpec describes the attributes of a scale subresource.",
        &[],
        json!({
            "replicas": count("replicas is the desired number of instances."),
        }),
    );
    let status = object(
        "ScaleStatus represents the current status of a scale subresource.",
        &["replicas"],
        json!({
            "replicas": count("replicas is the actual number of observed instances."),
            "selector": text("selector is the label query over the instances, in its text form."),
        }),
    );
    let mut scale = object(
        "Scale represents a scaling request for a resource.",
        &[],
        json!({
            "apiVersion": text(API_VERSION), "kind": text(KIND), "metadata": metadata, "spec": spec, "status": status,
        }),
    );
    scale["x-kubernetes-group-version-kind"] = json!([{"group": "autoscaling", "kind": "Scale", "version": "v1"}]);
    scale
}

type Add<'a> = &'a mut dyn FnMut(&str, Value);
type Refer<'a> = &'a dyn Fn(&str, &str) -> Value;
type ListOf<'a> = &'a dyn Fn(&str) -> Value;

fn object_schemas(add: Add<'_>, refer: Refer<'_>, list_of: ListOf<'_>) {
    add(
        "Time",
        json!({"type": "string", "format": "date-time", "description": "Time is a time in RFC 3339 form, in UTC."}),
    );
    add(
        "MicroTime",
        json!({"type": "string", "format": "date-time", "description": "MicroTime is a time with microseconds."}),
    );
    add(
        "FieldsV1",
        json!({"type": "object", "description": "FieldsV1 stores a set of fields in a data structure like a Trie, in JSON format."}),
    );
    add(
        "Patch",
        json!({"type": "object", "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body."}),
    );
    add("ObjectMeta", object_meta(refer, list_of));
    add(
        "ListMeta",
        object(
            "ListMeta describes metadata that synthetic resources must have, including lists and various status objects.",
            &[],
            json!({
                "continue": text("Set when more objects follow; pass it to read on."),
                "remainingItemCount": number("How many objects follow in the list."),
                "resourceVersion": text("The server's version of the list; watch from here."),
                "selfLink": text("Deprecated: no longer populated."),
            }),
        ),
    );
    add("OwnerReference", owner_reference());
    add(
        "ManagedFieldsEntry",
        object(
            "ManagedFieldsEntry is a workflow-id, a FieldSet and the group version of the resource that the fieldset applies to.",
            &[],
            json!({
                "apiVersion": text("The version of this resource that this field set applies to."),
                "fieldsType": text("The discriminator for the different fields format and version; only FieldsV1."),
                "fieldsV1": refer("FieldsV1", "The fields."),
                "manager": text("The workflow managing these fields."),
                "operation": text("Apply or Update."),
                "subresource": text("The subresource used to write."),
                "time": refer("Time", "When the entry was last changed."),
            }),
        ),
    );
}

/// What a DELETE carries.
fn option_schemas(add: Add<'_>, refer: Refer<'_>) {
    add(
        "Preconditions",
        object(
            "Preconditions must be fulfilled before an operation (update, delete, etc.) is carried out.",
            &[],
            json!({
                "resourceVersion": text("Specifies the target ResourceVersion."), "uid": text("Specifies the target UID."),
            }),
        ),
    );
    let mut delete = object(
        "DeleteOptions may be provided when deleting an API object.",
        &[],
        json!({
            "apiVersion": text(API_VERSION),
            "kind": text(KIND),
            "dryRun": {"type": "array", "items": {"type": "string"}, "description": "All: everything but storing is done."},
            "gracePeriodSeconds": number("Seconds before the object should be deleted."),
            "orphanDependents": {"type": "boolean", "description": "Deprecated: use propagationPolicy."},
            "preconditions": refer("Preconditions", "Must be fulfilled before a deletion is carried out, else 409."),
            "propagationPolicy": text("Whether and how dependents are deleted: Orphan, Background or Foreground."),
        }),
    );
    delete["x-kubernetes-group-version-kind"] = json!([{"group": "", "kind": "DeleteOptions", "version": "v1"}]);
    add("DeleteOptions", delete);
}

/// What a failed call answers.
fn status_schemas(add: Add<'_>, refer: Refer<'_>, list_of: ListOf<'_>) {
    add(
        "StatusCause",
        object(
            "StatusCause provides more information about an api.Status failure.",
            &[],
            json!({
                "field": text("The field of the resource that has caused this error."), "message": text("A human-readable description."),
                "reason": text("A machine-readable description."),
            }),
        ),
    );
    add(
        "StatusDetails",
        object(
            "StatusDetails is a set of additional properties about a response.",
            &[],
            json!({
                "causes": {"type": "array", "items": list_of("StatusCause"), "description": "The details of the failure."},
                "group": text("The group of the resource."), "kind": text("The kind of the resource."), "name": text("The name of the resource."),
                "retryAfterSeconds": number("When to try again."), "uid": text("UID of the resource."),
            }),
        ),
    );
    let mut status = object(
        "Status is a return value for calls that don't return other objects.",
        &[],
        json!({
            "apiVersion": text(API_VERSION), "kind": text(KIND), "metadata": refer("ListMeta", LIST_METADATA),
            "code": number("Suggested HTTP return code."), "details": refer("StatusDetails", "More about the failure."),
            "message": text("A human-readable description."), "reason": text("A machine-readable description."),
            "status": text("Success or Failure."),
        }),
    );
    status["x-kubernetes-group-version-kind"] = json!([{"group": "", "kind": "Status", "version": "v1"}]);
    add("Status", status);
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn number(description: &str) -> Value {
    json!({"type": "integer", "format": "int64", "description": description})
}

fn object(description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema = json!({"type": "object", "description": description, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn owner_reference() -> Value {
    let mut schema = object(
        "OwnerReference contains enough information to let you identify an owning object. An owning object must be in the same \
         namespace as the dependent, or be cluster-scoped, so there is no namespace field.",
        &["apiVersion", "kind", "name", "uid"],
        json!({
            "apiVersion": text("API version of the referent."),
            "blockOwnerDeletion": {"type": "boolean", "description": "If true, the owner cannot be deleted in the foreground until this reference is removed."},
            "controller": {"type": "boolean", "description": "If true, this reference points to the managing controller."},
            "kind": text("Kind of the referent."), "name": text("Name of the referent."), "uid": text("UID of the referent."),
        }),
    );
    schema["x-kubernetes-map-type"] = "atomic".into();
    schema
}

fn object_meta(refer: Refer<'_>, list_of: ListOf<'_>) -> Value {
    let strings = |description: &str| json!({"type": "object", "description": description, "additionalProperties": {"type": "string"}});
    object(
        "ObjectMeta is metadata that all persisted resources must have, which includes all objects users must create.",
        &[],
        json!({
            "annotations": strings("Annotations is an unstructured key value map stored with a resource that may be set by external tools to store and retrieve arbitrary metadata. They are not queryable and should be preserved when modifying objects."),
            "creationTimestamp": refer("Time", "CreationTimestamp is a timestamp representing the server time when this object was created. Populated by the system. Read-only."),
            "deletionGracePeriodSeconds": number("Number of seconds allowed for this object to gracefully terminate before it will be removed from the system. Read-only."),
            "deletionTimestamp": refer("Time", "DeletionTimestamp is RFC 3339 date and time at which this resource will be deleted. Set by the server when a graceful deletion is requested. Read-only."),
            "finalizers": {
                "type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge",
                "description": "Must be empty before the object is deleted from the registry. Each entry is an identifier for the responsible component that will remove the entry from the list.",
            },
            "generateName": text("GenerateName is an optional prefix, used by the server, to generate a unique name ONLY IF the Name field has not been provided."),
            "generation": number("A sequence number representing a specific generation of the desired state. Populated by the system. Read-only."),
            "labels": strings("Map of string keys and values that can be used to organize and categorize (scope and select) objects."),
            "managedFields": {
                "type": "array", "items": list_of("ManagedFieldsEntry"), "x-kubernetes-list-type": "atomic",
                "description": "ManagedFields maps workflow-id and version to the set of fields that are managed by that workflow.",
            },
            "name": text("Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Cannot be updated."),
            "namespace": text("Namespace defines the space within which each name must be unique. Not all objects are required to be scoped to a namespace. Cannot be updated."),
            "ownerReferences": {
                "type": "array", "items": list_of("OwnerReference"), "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["uid"], "x-kubernetes-patch-merge-key": "uid", "x-kubernetes-patch-strategy": "merge",
                "description": "List of objects depended by this object. If ALL objects in the list have been deleted, this object will be garbage collected.",
            },
            "resourceVersion": text("An opaque value that represents the internal version of this object that can be used by clients to determine when objects have changed. Populated by the system. Read-only."),
            "selfLink": text("Deprecated: no longer populated."),
            "uid": text("UID is the unique in time and space value for this object. Populated by the system. Read-only."),
        }),
    )
}
