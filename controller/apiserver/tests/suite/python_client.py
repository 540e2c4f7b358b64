"""What a program written with the official Python client does: it fails loudly where the server is not as it expects."""

import base64

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

GROUP, VERSION, PLURAL, KIND = "py.example.org", "v1", "gauges", "Gauge"


def refused(code, action):
    try:
        action()
    except ApiException as error:
        assert error.status == code, f"{error.status} instead of {code}: {error.body}"
        return error
    raise AssertionError(f"not refused with {code}")


def definition():
    spec = {"type": "object", "properties": {"level": {"type": "integer", "minimum": 0}}}
    status = {"type": "object", "properties": {"seen": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": spec, "status": status}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": PLURAL, "kind": KIND},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def gauge(name, level):
    metadata = {"name": name, "labels": {"app": "gauge"}}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata, "spec": {"level": level}}


def typed():
    """Built-in kinds through their generated classes."""
    core, extensions = client.CoreV1Api(), client.ApiextensionsV1Api()
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py")))
    data = {"key": base64.b64encode(b"value").decode()}
    core.create_namespaced_secret("py", client.V1Secret(metadata=client.V1ObjectMeta(name="s"), data=data))
    assert core.read_namespaced_secret("s", "py").data == data
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="m-"), data={"a": "1"})
    made = core.create_namespaced_config_map("py", body)
    patched = core.patch_namespaced_config_map(made.metadata.name, "py", {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}, patched.data
    for number in range(5):
        name = client.V1ObjectMeta(name=f"page-{number}")
        core.create_namespaced_config_map("py", client.V1ConfigMap(metadata=name))
    seen, token = [], None
    while token != "":
        page = core.list_namespaced_config_map("py", limit=2, _continue=token)
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue or ""
    assert len(seen) == 6 and seen == sorted(seen), seen
    refused(409, lambda: core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py"))))
    extensions.create_custom_resource_definition(definition())
    who = client.AuthenticationV1Api().create_self_subject_review({})
    assert who.status.user_info.username, who


def custom():
    """A custom resource as plain dictionaries: made, watched, patched three ways, deleted."""
    objects = client.CustomObjectsApi()
    place = (GROUP, VERSION, "py", PLURAL)
    objects.create_namespaced_custom_object(*place, gauge("a", 1))
    listed = objects.list_namespaced_custom_object(*place, label_selector="app=gauge")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    refused(422, lambda: objects.create_namespaced_custom_object(*place, gauge("b", -1)))
    refused(404, lambda: objects.get_namespaced_custom_object(*place, "b"))
    objects.patch_namespaced_custom_object(*place, "a", {"spec": {"level": 2}})
    turn = [{"op": "replace", "path": "/spec/level", "value": 3}]
    objects.patch_namespaced_custom_object(*place, "a", turn, _content_type="application/json-patch+json")
    objects.patch_namespaced_custom_object_status(*place, "a", {"status": {"seen": 3}})
    found = objects.get_namespaced_custom_object(*place, "a")
    assert (found["spec"], found["status"]) == ({"level": 3}, {"seen": 3}), found
    objects.delete_namespaced_custom_object(*place, "a")
    stream = watch.Watch().stream(
        objects.list_namespaced_custom_object,
        *place,
        resource_version=listed["metadata"]["resourceVersion"],
        timeout_seconds=20,
    )
    kinds = []
    for event in stream:
        kinds.append(event["type"])
        if event["type"] == "DELETED":
            break
    assert kinds == ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"], kinds


def discovered():
    """The dynamic client, which finds kinds by discovery."""
    api = dynamic.DynamicClient(client.ApiClient())
    gauges = api.resources.get(api_version=f"{GROUP}/{VERSION}", kind=KIND)
    gauges.create(body=gauge("d", 1), namespace="py")
    merge = "application/merge-patch+json"
    assert gauges.patch(body=gauge("d", 7), namespace="py", content_type=merge).spec.level == 7
    assert [item.metadata.name for item in gauges.get(namespace="py").items] == ["d"]
    body = gauge("d", 8)
    body["metadata"]["resourceVersion"] = gauges.get(name="d", namespace="py").metadata.resourceVersion
    assert gauges.replace(body=body, namespace="py").spec.level == 8
    for event in gauges.watch(namespace="py", timeout=20):
        assert event["type"] == "ADDED" and event["object"].metadata.name == "d"
        break
    gauges.delete(name="d", namespace="py")
    api.resources.get(api_version="v1", kind="Namespace").delete(name="py")


def main():
    config.load_kube_config()
    typed()
    custom()
    discovered()
    print("done")


main()
