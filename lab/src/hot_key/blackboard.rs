//! iceoryx2's blackboard, with a handle for each key on both sides.

use super::view::{Ask, Value, View, value};
use super::writer::Sets;
use crate::reads::rivals::blackboard::{Handle, Key, config};
use crate::reads::workload::key;
use anyhow::{Context, Result};
use iceoryx2::node::Node;
use iceoryx2::port::writer::EntryHandleMut;
use iceoryx2::prelude::{NodeBuilder, ipc};
use iceoryx2::service::port_factory::blackboard::PortFactory;
use std::path::Path;

const SERVICE: &str = "l1d-lab/hot-key";

/// The writer.
pub struct BlackboardWriter {
    handles: Vec<EntryHandleMut<ipc::Service, Key, Value>>,
    _service: PortFactory<ipc::Service, Key>,
    _node: Node<ipc::Service>,
}

impl BlackboardWriter {
    /// Creates the blackboard; every key has a value.
    ///
    /// # Errors
    /// iceoryx2's own.
    pub fn create(directory: &Path, prefix: &str, keys: u32) -> Result<BlackboardWriter> {
        let node =
            NodeBuilder::new().config(&config(directory, prefix)?).create::<ipc::Service>()?;
        let mut creator = node.service_builder(&SERVICE.try_into()?).blackboard_creator::<Key>();
        for number in 0..keys {
            creator = creator.add::<Value>(key(number), value(0));
        }
        let service = creator.create()?;
        let writer = service.writer_builder().create()?;
        let handles = (0..keys).map(|number| writer.entry::<Value>(&key(number)));
        let handles = handles.collect::<Result<_, _>>()?;
        Ok(BlackboardWriter { handles, _service: service, _node: node })
    }
}

impl Sets for BlackboardWriter {
    fn set(&mut self, number: u32, value: &Value) -> Result<()> {
        let handle = self.handles.get(number as usize).context("no such key")?;
        handle.update_with_copy(*value);
        Ok(())
    }
}

/// A reader.
pub struct BlackboardView {
    handles: Vec<Handle>,
    _service: PortFactory<ipc::Service, Key>,
    _node: Node<ipc::Service>,
}

impl BlackboardView {
    /// Opens it in another process.
    ///
    /// # Errors
    /// iceoryx2's own.
    pub fn open(directory: &Path, prefix: &str, keys: u32) -> Result<BlackboardView> {
        let node =
            NodeBuilder::new().config(&config(directory, prefix)?).create::<ipc::Service>()?;
        let service =
            node.service_builder(&SERVICE.try_into()?).blackboard_opener::<Key>().open()?;
        let reader = service.reader_builder().create()?;
        let handles = (0..keys).map(|number| reader.entry::<Value>(&key(number)));
        let handles = handles.collect::<Result<_, _>>()?;
        Ok(BlackboardView { handles, _service: service, _node: node })
    }
}

impl View for BlackboardView {
    #[inline(always)]
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        let Some(handle) = self.handles.get(ask.number as usize) else { return false };
        *value = *handle.get();
        true
    }
}
