//! The members of the etcd cluster, each asked by itself: their size, their alarms, their repair.

use etcd_client::{AlarmAction, AlarmType, Client};
use serde::Serialize;

use super::{Keeper, KeeperError};
use crate::members;

/// One member, as it describes itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its client URL.
    pub endpoint: String,
    /// Its program's version.
    pub version: String,
    /// Whether it leads.
    pub leads: bool,
    /// Bytes its data takes on disk.
    pub size: i64,
    /// Bytes of these that hold something; the rest comes back with defragmentation.
    pub size_in_use: i64,
    /// Its alarms, such as `NOSPACE`.
    pub alarms: Vec<String>,
}

impl Keeper {
    /// All members at the endpoints given.
    pub async fn members(&self) -> Result<Vec<Member>, KeeperError> {
        let mut members = Vec::new();
        for endpoint in &self.options.endpoints {
            let failed = |source| failed(endpoint, "tell its status", source);
            let mut client = self.client(endpoint).await?;
            let status = client.status().await.map_err(failed)?;
            let id = status.header().map_or(0, |header| header.member_id());
            let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.map_err(failed)?;
            members.push(Member {
                endpoint: endpoint.clone(),
                version: status.version().to_owned(),
                leads: status.leader() == id,
                size: status.db_size(),
                size_in_use: status.raft_used_db_size(),
                alarms: alarms.alarms().iter().filter(|alarm| alarm.member_id() == id).map(word).collect(),
            });
        }
        Ok(members)
    }

    /// Gives free space in the members' files back, one member after the other; each is busy meanwhile.
    pub async fn defragment(&self) -> Result<(), KeeperError> {
        for endpoint in &self.options.endpoints {
            let mut client = self.client(endpoint).await?;
            client.defragment().await.map_err(|source| failed(endpoint, "defragment its data", source))?;
        }
        Ok(())
    }

    /// Takes back the alarm that keeps etcd from writing.
    pub async fn disarm(&self) -> Result<(), KeeperError> {
        let Some(endpoint) = self.options.endpoints.first() else { return Ok(()) };
        let failed = |source| failed(endpoint, "take its alarm back", source);
        let mut client = self.client(endpoint).await?;
        // Member zero means every alarm of the cluster.
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, None).await.map_err(failed)?;
        let raised = client.alarm(AlarmAction::Get, AlarmType::None, None).await.map_err(failed)?;
        for alarm in raised.alarms().iter().filter(|alarm| alarm.alarm() == AlarmType::Nospace) {
            let mut options = etcd_client::AlarmOptions::new();
            options.with_member(alarm.member_id());
            client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn client(&self, endpoint: &String) -> Result<Client, KeeperError> {
        let settings = members::settings(&self.options)?;
        Client::connect([endpoint], Some(settings)).await.map_err(|source| failed(endpoint, "answer", source))
    }
}

fn failed(endpoint: &str, action: &'static str, source: etcd_client::Error) -> KeeperError {
    KeeperError::Member { endpoint: endpoint.to_owned(), action, source: Box::new(source) }
}

fn word(alarm: &etcd_client::AlarmMember) -> String {
    match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE".to_owned(),
        AlarmType::Corrupt => "CORRUPT".to_owned(),
        AlarmType::None => "NONE".to_owned(),
    }
}
