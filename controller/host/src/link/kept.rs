//! Packets that are kept here, whoever they are addressed to.
//!
//! What answers a proxy is addressed to the proxy's client (see [`crate::balancer`]) and carries a mark. One rule sends what carries it to
//! a routing table of its own, whose only route says that everything there is meant for this namespace itself.

use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::observe::failure;
use super::{Change, Changes, LinkName, Links, Result};
use crate::balancer::PROXY_MARK;

/// The routing table.
const TABLE: u8 = 100;
/// Place of the rule: after the one for the namespace's own addresses (0), before all that is usual (32766).
const PRIORITY: u32 = 100;

impl Links {
    /// Makes the rule and the route be there, or neither.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn ensure_kept(&self, wanted: bool) -> Result<Changes> {
        let mut changes = Changes::default();
        let (rules, routes) = (self.kept_rules().await?, self.kept_routes().await?);
        let failed = |action: &'static str| move |error| failure(action, "*", error);
        let right = rules.iter().filter(|rule| is_ours(rule)).count();
        for rule in rules.into_iter().filter(|rule| !wanted || !is_ours(rule)) {
            self.handle.rule().del(rule).execute().await.map_err(failed("remove a routing rule of"))?;
            changes.push(Change::new("RouteChanged", "removed a routing rule for answers to the proxy"));
        }
        if wanted && right == 0 {
            let mut add = self.handle.rule().add().v4().table_id(TABLE.into()).action(RuleAction::ToTable);
            add = add.priority(PRIORITY).fw_mark(PROXY_MARK);
            add.message_mut().attributes.push(RuleAttribute::FwMask(PROXY_MARK));
            add.execute().await.map_err(failed("add a routing rule to"))?;
            changes.push(Change::new("RouteChanged", "added the routing rule for answers to the proxy"));
        }
        let to_all =
            |route: &RouteMessage| route.header.kind == RouteType::Local && route.header.destination_prefix_length == 0;
        let there = routes.iter().any(to_all);
        for route in routes.into_iter().filter(|route| !wanted || !to_all(route)) {
            self.handle.route().del(route).execute().await.map_err(failed("remove a route of"))?;
            changes.push(Change::new("RouteChanged", "removed a route for answers to the proxy"));
        }
        if wanted && !there {
            let index = self.index_of(LinkName::loopback().as_str()).await?;
            let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().table_id(TABLE.into());
            let route = route.kind(RouteType::Local).scope(RouteScope::Host).output_interface(index);
            self.handle.route().add(route.build()).execute().await.map_err(failed("add a route to"))?;
            changes.push(Change::new("RouteChanged", "added the route for answers to the proxy"));
        }
        Ok(changes)
    }

    /// All rules that lead to the table, or look for the mark.
    async fn kept_rules(&self) -> Result<Vec<RuleMessage>> {
        let all: Vec<RuleMessage> =
            self.handle.rule().get(IpVersion::V4).execute().try_collect().await.map_err(|e| failure("list", "*", e))?;
        let marked = |rule: &RuleMessage| rule.attributes.contains(&RuleAttribute::FwMark(PROXY_MARK));
        Ok(all.into_iter().filter(|rule| table_of(rule) == u32::from(TABLE) || marked(rule)).collect())
    }

    /// All routes in the table.
    async fn kept_routes(&self) -> Result<Vec<RouteMessage>> {
        let mut ask = RouteMessage::default();
        ask.header.address_family = AddressFamily::Inet;
        let listed: Result<Vec<RouteMessage>, _> = self.handle.route().get(ask).execute().try_collect().await;
        let all = listed.map_err(|error| failure("list the routes of", "*", error))?;
        Ok(all.into_iter().filter(|route| route_table(route) == u32::from(TABLE)).collect())
    }
}

fn is_ours(rule: &RuleMessage) -> bool {
    let has = |attribute| rule.attributes.contains(&attribute);
    table_of(rule) == u32::from(TABLE)
        && has(RuleAttribute::FwMark(PROXY_MARK))
        && has(RuleAttribute::FwMask(PROXY_MARK))
        && has(RuleAttribute::Priority(PRIORITY))
}

fn table_of(rule: &RuleMessage) -> u32 {
    let told = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    told.unwrap_or(rule.header.table.into())
}

fn route_table(route: &RouteMessage) -> u32 {
    let RouteHeader { table, .. } = route.header;
    let told = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    told.unwrap_or(table.into())
}
