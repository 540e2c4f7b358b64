//! From what a link is to what it should be: pure, so that "converged means no step" is tested without a kernel.

use ipnet::IpNet;

use super::{Change, Error, Kind, Link, LinkName, Mac, Result};

/// A link as it should be; what is `None` is left as it is. Every link we look after is up.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: LinkName,
    /// Kind to be made; none for a link that somebody else makes.
    pub(super) kind: Option<Kind>,
    pub(super) mtu: Option<u32>,
    pub(super) alias: Option<String>,
    pub(super) mac: Option<Mac>,
    pub(super) master: Master,
    pub(super) addresses: Option<Vec<IpNet>>,
}

impl Wanted {
    pub(super) fn just_up(name: LinkName) -> Wanted {
        Wanted { name, kind: None, mtu: None, alias: None, mac: None, master: Master::Any, addresses: None }
    }
}

/// Which bridge a link shall be a port of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Master {
    Any,
    None,
    Index(u32),
}

/// One write to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Delete,
    /// Its MTU is set afterwards: one that it is made with the kernel changes by itself when a port comes or goes.
    CreateBridge {
        mac: Option<Mac>,
    },
    /// All that differs, in one message.
    Set(Vec<Property>),
    RemoveAddress(IpNet),
    AddAddress(IpNet),
}

/// Something that a link has one of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Property {
    Mtu(u32),
    Alias(String),
    Mac(Mac),
    Master(Option<u32>),
    Up,
}

impl Step {
    pub(super) fn changes(&self, name: &LinkName) -> Vec<Change> {
        let one = |reason, message: String| vec![Change::new(reason, message)];
        match self {
            Step::Delete => one("LinkDeleted", format!("deleted link {name}, which was of another kind")),
            Step::CreateBridge { .. } => one("LinkCreated", format!("made bridge {name}")),
            Step::RemoveAddress(address) => {
                one("AddressRemoved", format!("removed address {address} from link {name}"))
            }
            Step::AddAddress(address) => one("AddressAdded", format!("added address {address} to link {name}")),
            Step::Set(properties) => properties
                .iter()
                .map(|property| Change::new("LinkChanged", format!("set {} of link {name}", property.describe())))
                .collect(),
        }
    }
}

impl Property {
    fn describe(&self) -> String {
        match self {
            Property::Mtu(mtu) => format!("MTU {mtu}"),
            Property::Alias(alias) => format!("alias {alias:?}"),
            Property::Mac(mac) => {
                let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("hardware address {}", bytes.join(":"))
            }
            Property::Master(None) => "no bridge".to_owned(),
            Property::Master(Some(index)) => format!("the bridge (index {index})"),
            Property::Up => "state up".to_owned(),
        }
    }
}

pub(super) fn plan(wanted: &Wanted, found: Option<&Link>) -> Result<Vec<Step>> {
    let create = || Step::CreateBridge { mac: wanted.mac };
    match (found, &wanted.kind) {
        (None, Some(Kind::Bridge)) => Ok(vec![create()]),
        (None, _) => Err(Error::NotFound { name: wanted.name.to_string() }),
        (Some(link), Some(Kind::Bridge)) if link.kind != Kind::Bridge => Ok(vec![Step::Delete, create()]),
        (Some(link), Some(kind)) if link.kind != *kind => {
            Err(Error::WrongKind { name: wanted.name.to_string(), found: link.kind.clone(), wanted: kind.clone() })
        }
        (Some(link), _) => Ok(differences(wanted, link)),
    }
}

fn differences(wanted: &Wanted, link: &Link) -> Vec<Step> {
    let mut steps = Vec::new();
    let properties = properties(wanted, link);
    if !properties.is_empty() {
        steps.push(Step::Set(properties));
    }
    if let Some(addresses) = &wanted.addresses {
        let excess = link.addresses.iter().filter(|address| !addresses.contains(address));
        let missing = addresses.iter().filter(|address| !link.addresses.contains(address));
        steps.extend(excess.copied().map(Step::RemoveAddress));
        steps.extend(missing.copied().map(Step::AddAddress));
    }
    steps
}

fn properties(wanted: &Wanted, link: &Link) -> Vec<Property> {
    let mut properties = Vec::new();
    properties.extend(wanted.mtu.filter(|mtu| *mtu != link.mtu).map(Property::Mtu));
    let alias = wanted.alias.as_ref().filter(|alias| **alias != *link.alias.as_deref().unwrap_or_default());
    properties.extend(alias.cloned().map(Property::Alias));
    properties.extend(wanted.mac.filter(|mac| Some(*mac) != link.mac).map(Property::Mac));
    match wanted.master {
        Master::None if link.master.is_some() => properties.push(Property::Master(None)),
        Master::Index(index) if link.master != Some(index) => properties.push(Property::Master(Some(index))),
        _ => {}
    }
    if !link.up {
        properties.push(Property::Up);
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn wanted() -> Wanted {
        Wanted {
            name: "br-1".parse().unwrap(),
            kind: Some(Kind::Bridge),
            mtu: Some(1450),
            alias: Some("owner".into()),
            mac: Some([2, 0, 0, 0, 0, 1]),
            master: Master::Index(7),
            addresses: Some(vec![net("10.0.0.1/24")]),
        }
    }

    fn as_wanted() -> Link {
        Link {
            index: 3,
            name: "br-1".into(),
            kind: Kind::Bridge,
            alias: Some("owner".into()),
            mtu: 1450,
            mac: Some([2, 0, 0, 0, 0, 1]),
            up: true,
            master: Some(7),
            addresses: vec![net("10.0.0.1/24")],
        }
    }

    #[test]
    fn a_converged_link_needs_no_step() {
        assert_eq!(plan(&wanted(), Some(&as_wanted())).unwrap(), []);
    }

    #[test]
    fn a_missing_bridge_is_made_and_another_kind_replaced() {
        let create = Step::CreateBridge { mac: Some([2, 0, 0, 0, 0, 1]) };
        assert_eq!(plan(&wanted(), None).unwrap(), std::slice::from_ref(&create));
        let veth = Link { kind: Kind::Veth, ..as_wanted() };
        assert_eq!(plan(&wanted(), Some(&veth)).unwrap(), [Step::Delete, create]);
    }

    #[test]
    fn a_missing_port_is_an_error_and_never_made() {
        let wanted = Wanted { kind: None, ..wanted() };
        assert!(matches!(plan(&wanted, None), Err(Error::NotFound { .. })));
    }

    #[test]
    fn only_what_differs_is_set_and_in_one_message() {
        let link = Link { mtu: 1500, up: false, master: None, ..as_wanted() };
        let expected = vec![Property::Mtu(1450), Property::Master(Some(7)), Property::Up];
        assert_eq!(plan(&wanted(), Some(&link)).unwrap(), [Step::Set(expected)]);
    }

    #[test]
    fn what_is_not_asked_for_is_left_alone() {
        let link = Link { up: true, ..as_wanted() };
        assert_eq!(plan(&Wanted::just_up("br-1".parse().unwrap()), Some(&link)).unwrap(), []);
    }

    #[test]
    fn wrong_addresses_go_before_missing_ones_come() {
        let link = Link { addresses: vec![net("10.0.0.1/16"), net("10.9.0.1/24")], ..as_wanted() };
        let expected = [
            Step::RemoveAddress(net("10.0.0.1/16")),
            Step::RemoveAddress(net("10.9.0.1/24")),
            Step::AddAddress(net("10.0.0.1/24")),
        ];
        assert_eq!(plan(&wanted(), Some(&link)).unwrap(), expected);
    }

    /// What the kernel would make of the steps, as far as this plan is concerned.
    fn carry_out(link: &mut Link, steps: &[Step]) {
        for step in steps {
            match step {
                Step::RemoveAddress(gone) => link.addresses.retain(|address| address != gone),
                Step::AddAddress(new) => link.addresses.push(*new),
                Step::Set(properties) => properties.iter().for_each(|property| match property.clone() {
                    Property::Mtu(mtu) => link.mtu = mtu,
                    Property::Alias(alias) => link.alias = Some(alias).filter(|alias| !alias.is_empty()),
                    Property::Mac(mac) => link.mac = Some(mac),
                    Property::Master(master) => link.master = master,
                    Property::Up => link.up = true,
                }),
                Step::Delete | Step::CreateBridge { .. } => unreachable!("the kinds agree"),
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_drifted_one_round_sets_it_right(
            mtu in 68u32..9000,
            alias in proptest::option::of("[a-z]{1,4}"),
            wanted_alias in "[a-z]{0,4}",
            up in any::<bool>(),
            master in proptest::option::of(1u32..4),
            wanted_master in prop_oneof![Just(Master::Any), Just(Master::None), (1u32..4).prop_map(Master::Index)],
            found in proptest::collection::hash_set(0u8..6, 0..4),
            addresses in proptest::collection::hash_set(0u8..6, 0..4),
        ) {
            let nets = |hosts: &std::collections::HashSet<u8>| -> Vec<IpNet> {
                hosts.iter().map(|host| net(&format!("10.0.{host}.1/24"))).collect()
            };
            let mut link = Link { mtu, alias, up, master, addresses: nets(&found), ..as_wanted() };
            let wanted = Wanted {
                alias: Some(wanted_alias),
                master: wanted_master,
                addresses: Some(nets(&addresses)),
                ..wanted()
            };
            let steps = plan(&wanted, Some(&link)).unwrap();
            carry_out(&mut link, &steps);
            prop_assert_eq!(plan(&wanted, Some(&link)).unwrap(), vec![]);
        }
    }
}
