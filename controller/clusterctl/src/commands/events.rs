//! `events`: what happened, oldest first.

use super::api::read;
use super::catalog::Catalog;
use super::get;
use super::output::{self, Output};
use super::watch;
use crate::print::age;
use crate::print::table::Table;
use anyhow::Result;
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;

/// Which events.
#[derive(clap::Args, Debug)]
pub struct EventsArgs {
    /// Only those about this object.
    #[arg(long = "for", value_name = "TYPE/NAME")]
    pub object: Option<String>,
    /// Only these types: Normal, Warning.
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Go on printing new ones.
    #[arg(short, long)]
    pub watch: bool,
    /// yaml, json, name, jsonpath=TEMPLATE or custom-columns=HEADING:PATH,….
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<Output>,
    /// Leave out the line of headings.
    #[arg(long)]
    pub no_headers: bool,
}

/// Prints events.
pub async fn run(client: &Client, namespace: &str, args: &EventsArgs) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let (selector, namespaced) = match &args.object {
        Some(object) => {
            let found = get::targets(&catalog, std::slice::from_ref(object))?.remove(0);
            let name = found.names.first().map(|name| format!(",involvedObject.name={name}")).unwrap_or_default();
            (Some(format!("involvedObject.kind={}{name}", found.resource.kind)), found.resource.namespaced)
        }
        None => (None, true),
    };
    let url = if args.all_namespaces || !namespaced {
        "/api/v1/events".to_owned()
    } else {
        format!("/api/v1/namespaces/{namespace}/events")
    };
    let url = get::selected(&url, None, selector.as_deref());
    let mut list = read(client, &url).await?;
    let version = watch::version(&list);
    let mut events = match list["items"].take() {
        Value::Array(events) => events,
        _ => Vec::new(),
    };
    events.retain(|event| is_wanted(event, &args.types));
    sort(&mut events);
    if let Some(form @ (Output::Yaml | Output::Json | Output::Name | Output::JsonPath(_) | Output::Columns(_))) =
        &args.output
    {
        let resource = catalog.find("events")?;
        let objects: Vec<_> = events.into_iter().map(|event| (resource.clone(), output::shown(event))).collect();
        return output::print(form, &objects, false, !args.no_headers);
    }
    if events.is_empty() && !args.watch {
        eprintln!(
            "No events found{}",
            if args.all_namespaces { "." } else { " in the namespace; they are kept for an hour." }
        );
        return Ok(());
    }
    let mut headings = !args.no_headers;
    if !events.is_empty() {
        print!("{}", table(&events, args.all_namespaces, Timestamp::now()).render(headings));
        headings = false;
    }
    if !args.watch {
        return Ok(());
    }
    watch::changes(client, &url, &version, false, |event| {
        if is_wanted(&event, &args.types) {
            let table = table(&[event], args.all_namespaces, Timestamp::now());
            print!("{}", table.render(std::mem::take(&mut headings)));
        }
        Ok(())
    })
    .await
}

fn is_wanted(event: &Value, types: &[String]) -> bool {
    types.is_empty()
        || types.iter().any(|wanted| event["type"].as_str().is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
}

/// Oldest first, by when each was last seen.
pub fn sort(events: &mut [Value]) {
    events.sort_by_key(|event| last(event).parse::<Timestamp>().unwrap_or(Timestamp::MIN));
}

/// When an event was last seen.
pub fn last(event: &Value) -> &str {
    [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ]
    .into_iter()
    .find_map(Value::as_str)
    .unwrap_or_default()
}

/// `5m (x3 over 2h)`.
pub fn seen(event: &Value, now: Timestamp) -> String {
    let ago = age::of(last(event), now);
    let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
    let first = [&event["firstTimestamp"], &event["eventTime"]].into_iter().find_map(Value::as_str);
    match first {
        Some(first) if count > 1 => format!("{ago} (x{count} over {})", age::of(first, now)),
        _ => ago,
    }
}

fn table(events: &[Value], namespaces: bool, now: Timestamp) -> Table {
    let mut headings = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    if namespaces {
        headings.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(headings.into_iter().map(str::to_owned).collect());
    for event in events {
        let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
        let about = &event["involvedObject"];
        let object = format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]));
        let mut row =
            vec![seen(event, now), text(&event["type"]), text(&event["reason"]), object, text(&event["message"])];
        if namespaces {
            row.insert(0, text(&event["metadata"]["namespace"]));
        }
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_sorted_and_repeated_ones_say_so() {
        let event = |name: &str, at: &str, count: u32| {
            json!({"type": "Normal", "reason": "Started", "message": "machine started\n", "eventTime": "2026-01-01T00:00:00Z",
                "series": {"count": count, "lastObservedTime": at}, "involvedObject": {"kind": "Node", "name": name}})
        };
        let mut events = vec![event("b", "2026-01-01T00:09:00.5Z", 3), event("a", "2026-01-01T00:08:00Z", 1)];
        sort(&mut events);
        insta::assert_snapshot!(table(&events, false, "2026-01-01T00:10:00Z".parse().unwrap()).render(true), @r"
        LAST SEEN           TYPE     REASON    OBJECT   MESSAGE
        2m                  Normal   Started   node/a   machine started
        60s (x3 over 10m)   Normal   Started   node/b   machine started
        ");
        assert!(is_wanted(&events[0], &["normal".to_owned()]) && !is_wanted(&events[0], &["Warning".to_owned()]));
    }
}
