//! One storage for `v1` and `events.k8s.io/v1` Events.
