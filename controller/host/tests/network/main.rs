//! Networking verbs against the real kernel, in namespaces of the test's own. Needs root, and fails without.

mod dnsmasq;
mod lab;
mod link;
mod netns;
mod tap;
