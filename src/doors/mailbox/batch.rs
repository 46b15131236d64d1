//! Requests are taken out of a ring a few at a time, so that their cache misses overlap: the memory
//! that each needs is prefetched before the first of them is handled.

use super::super::figures;
use super::super::peers::Peers;
use super::super::{Doors, Origin, Peer, Service};
use super::intake::WORK_PER_PASS;
use super::{OwnerEnd, Taken};
use l1d_wire::protocol::Request;
use l1d_wire::snapshot::Figures;
use shm_layout::mailbox::SHAPE;
use shm_layout::mailbox::ring::Broken;

/// Requests in a batch.
const REQUESTS: usize = 8;

/// A request of a batch, and its lane.
type Slot<'p> = Option<(Option<u8>, Request<'p>)>;

/// The result of a batch.
pub(super) struct Served {
    /// Records taken out of the ring.
    pub(super) records: usize,
    /// The work that they are.
    pub(super) work: usize,
    /// The ring may have more, and the budget has room.
    pub(super) may_have_more: bool,
    /// Some of the records were pieces.
    has_pieces: bool,
}

impl Doors<'_> {
    /// Takes some records out of a ring and handles their requests.
    pub(super) fn serve_batch(
        &mut self,
        origin: Origin,
        service: &mut impl Service,
    ) -> Result<Served, Broken> {
        let nothing = Served { records: 0, work: 0, may_have_more: false, has_pieces: false };
        let Some(connection) = self.peers.get_mut(origin) else { return Ok(nothing) };
        let Some(mailbox) = connection.phase.mailbox_mut() else { return Ok(nothing) };
        let peer = connection.peer;
        let mut slots = [const { None }; REQUESTS];
        let mut assembled = Vec::new();
        let served = fill(
            &mut slots,
            (mailbox, &mut connection.counted),
            (&mut self.scratch, &mut assembled),
            self.limits.frame_bytes_max,
            service,
        )?;
        if served.has_pieces {
            // A piece of a reply may have been sent for the last one that was taken.
            let has_sleepers = mailbox.has_sleepers();
            connection.notify();
            self.peers.touch(origin);
            if has_sleepers {
                self.peers.add_sleepers(origin);
            }
        }
        // A single request's cache misses have nothing to overlap with.
        if served.records > 1 {
            for (_, request) in slots.iter().flatten() {
                service.prefetch_entry(request);
            }
        }
        service.begin();
        for (lane, request) in slots.into_iter().flatten() {
            handle(service, &mut self.peers, (origin, lane), &peer, request)?;
        }
        Ok(served)
    }
}

/// Fills `slots` with the next requests of a mailbox, within its budget, and prefetches their index
/// lines. The requests borrow from `scratch`, or one that came in pieces from `assembled`.
fn fill<'p>(
    slots: &mut [Slot<'p>],
    (mailbox, counted): (&mut OwnerEnd, &mut Figures),
    (mut scratch, assembled): (&'p mut [u8], &'p mut Vec<u8>),
    request_bytes_max: usize,
    service: &mut impl Service,
) -> Result<Served, Broken> {
    let mut served = Served { records: 0, work: 0, may_have_more: true, has_pieces: false };
    let owed = mailbox.work;
    for slot in slots {
        if mailbox.work >= WORK_PER_PASS {
            counted.budgets_used_up += u64::from(mailbox.has_more()?);
            served.may_have_more = false;
            break;
        }
        if scratch.len() < SHAPE.piece_bytes() {
            break;
        }
        match mailbox.take(scratch, request_bytes_max)? {
            Taken::Nothing => {
                served.may_have_more = false;
                break;
            }
            Taken::Piece => {
                served.has_pieces = true;
                mailbox.work += 1;
            }
            Taken::Request { lane, bytes } => {
                let (payload, rest) = std::mem::take(&mut scratch).split_at_mut(bytes);
                scratch = rest;
                *slot = Some((lane, admit(payload, mailbox, counted, service)?));
            }
            Taken::Assembled { lane, payload } => {
                served.has_pieces = true;
                served.records += 1;
                *assembled = payload;
                *slot = Some((Some(lane), admit(assembled, mailbox, counted, service)?));
                // The next record may be for the same lane, which is free already if this request
                // wants no reply. That is known only after it was handled.
                break;
            }
        }
        served.records += 1;
    }
    served.work = mailbox.work - owed;
    Ok(served)
}

/// Decodes a request, charges its work to the mailbox and prefetches its index lines.
fn admit<'p>(
    payload: &'p [u8],
    mailbox: &mut OwnerEnd,
    counted: &mut Figures,
    service: &mut impl Service,
) -> Result<Request<'p>, Broken> {
    let request = Request::decode(payload).map_err(|_| Broken)?;
    mailbox.work += figures::count(counted, &request, payload.len());
    service.prefetch_index(&request);
    Ok(request)
}

/// Handles one request of a mailbox.
fn handle(
    service: &mut impl Service,
    peers: &mut Peers,
    (origin, lane): (Origin, Option<u8>),
    peer: &Peer,
    request: Request<'_>,
) -> Result<(), Broken> {
    let wants_reply = match &request {
        Request::Set(set) => set.reply,
        Request::Get { .. }
        | Request::GetMany { .. }
        | Request::SetMany { .. }
        | Request::Delete { .. }
        | Request::Operate(_)
        | Request::Reserve { .. }
        | Request::Fill { .. }
        | Request::Abandon { .. } => true,
        // All others go over the socket.
        _ => return Err(Broken),
    };
    let from = match lane {
        Some(lane) => {
            if !wants_reply && let Some(mailbox) = peers.mailbox_mut(origin) {
                mailbox.expect_no_reply(lane);
            }
            origin.with_lane(lane)
        }
        None if wants_reply => return Err(Broken),
        None => origin,
    };
    service.request(from, peer, request, peers);
    Ok(())
}
