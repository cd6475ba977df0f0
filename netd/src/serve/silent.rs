//! What the kernel announces to nobody, so that it has to be looked at now and then.

use std::path::PathBuf;

use crate::dataplane::{AttachedProgram, Dataplane, cgroup_root};
use crate::error::Result;
use crate::link::{Family, Sysctl};
use crate::model::ProgramsVersion;
use crate::netns::Netns;
use crate::observe::LocalPorts;

/// All of it. It costs a few system calls for each program that is attached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silent {
    local_ports: LocalPorts,
    nonlocal_bind: Vec<String>,
    cgroup: Option<PathBuf>,
    programs: Vec<AttachedProgram>,
    version: Option<ProgramsVersion>,
}

impl Silent {
    /// Looks at it.
    pub(super) fn read(host: &Netns, dataplane: Option<&Dataplane>) -> Result<Self> {
        let mut nonlocal_bind = Vec::new();
        for family in [Family::V4, Family::V6] {
            let switch = Sysctl::global(family, "ip_nonlocal_bind");
            if host.run(|| switch.exists())? {
                nonlocal_bind.push(switch.get(host)?);
            }
        }
        Ok(Self {
            local_ports: LocalPorts::read(host)?,
            nonlocal_bind,
            cgroup: cgroup_root()?,
            programs: dataplane.map_or_else(|| Ok(Vec::new()), Dataplane::attachments)?,
            version: dataplane.map_or(Ok(None), Dataplane::pinned_version)?,
        })
    }
}
