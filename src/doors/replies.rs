//! Replies: into a lane of a mailbox, or onto a socket.

use super::peers::Peers;
use super::unix::Phase;
use super::{Admission, Origin, Peer, Replies};
use l1d_wire::protocol::frame::HEADER_BYTES;
use l1d_wire::protocol::{ErrorCode, Response};
use l1d_wire::snapshot::{ClientFigures, Totals};
use l1d_wire::words;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// A reply's buffer over this size is shrunk.
const FRAME_BYTES_KEPT: usize = 64 << 10;

impl Replies for Peers {
    fn reply(&mut self, origin: Origin, response: &Response<'_>) {
        match origin.split() {
            (origin, Some(lane)) => self.reply_in_lane(origin, lane, response),
            (origin, None) => self.reply_on_socket(origin, response, None),
        }
    }

    fn reply_with_table(&mut self, origin: Origin, response: &Response<'_>, table: BorrowedFd<'_>) {
        match table.try_clone_to_owned() {
            Ok(table) => self.reply_on_socket(origin, response, Some(table)),
            Err(error) => {
                let message = format!(
                    "the daemon cannot hand over the table: {}; raise its limit on open files \
                     (LimitNOFILE=)",
                    words::of(&error)
                );
                let response = Response::Error { code: ErrorCode::Internal, message: &message };
                self.reply_on_socket(origin, &response, None);
            }
        }
    }

    fn readmit(&mut self, admit: &mut dyn FnMut(&Peer, BorrowedFd<'_>) -> Admission) {
        self.admit_again(admit);
    }

    fn clients(&self) -> Vec<ClientFigures> {
        self.figures()
    }

    fn totals(&self) -> Totals {
        self.total_figures()
    }
}

impl Peers {
    fn reply_in_lane(&mut self, origin: Origin, lane: u8, response: &Response<'_>) {
        let spin = self.spin;
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        let Some(connection) = self.get_mut(origin) else {
            self.frame = frame;
            return;
        };
        let response = response.known_to(connection.protocol);
        if let Err(error) = response.encode(&mut frame) {
            let message = error.to_string();
            let response = Response::Error { code: ErrorCode::Internal, message: &message };
            // A message this short fits a frame.
            let _ = response.encode(&mut frame);
        }
        let reply = frame.get(HEADER_BYTES..).unwrap_or_default();
        if let Some(mailbox) = connection.phase.mailbox_mut() {
            if !mailbox.reply(lane, reply) {
                tracing::error!(?origin, lane, "a reply without a request is dropped");
            }
            let has_pieces = mailbox.pieces_pending().is_some();
            let is_due = mailbox.is_expected(spin);
            if is_due {
                mailbox.stay_awake();
            }
            let has_sleepers = mailbox.has_sleepers();
            connection.counted.reply_bytes += frame.len() as u64;
            connection.notify();
            let uid = connection.peer.uid;
            self.users.at_mailboxes.spend_bytes(uid, frame.len());
            if has_pieces {
                self.touch(origin);
            }
            if has_sleepers {
                self.add_sleepers(origin);
            }
            if is_due {
                self.activate(origin);
            }
        }
        frame.shrink_to(FRAME_BYTES_KEPT);
        self.frame = frame;
    }

    fn reply_on_socket(&mut self, origin: Origin, response: &Response<'_>, table: Option<OwnedFd>) {
        let may_have_mailbox = table.is_some() && self.may_have_mailbox(origin);
        let Some(connection) = self.get_mut(origin) else { return };
        if !connection.phase.awaits_reply() {
            tracing::error!(?origin, "a reply without a request is dropped");
            return;
        }
        let queued = match table {
            Some(table) => connection.attach(response, table, may_have_mailbox),
            None => {
                let is_attached = connection.phase.is_attached();
                connection.phase = if is_attached { Phase::Idle } else { Phase::Closing };
                connection.output.push(&response.known_to(connection.protocol))
            }
        };
        if let Err(error) = queued {
            let message = error.to_string();
            let response = Response::Error { code: ErrorCode::Internal, message: &message };
            // A message this short fits a frame.
            let _ = connection.output.push(&response);
            if connection.phase.awaits_reply() {
                connection.phase = Phase::Closing;
            }
        }
        let waits = connection.is_touched;
        if connection.phase.mailbox().is_some() {
            self.add_mailbox(origin);
        }
        self.touch(origin);
        if waits {
            // Perhaps for long.
            self.weigh(origin, Instant::now());
        }
    }
}
