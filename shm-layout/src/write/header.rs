//! The words of the header that the owner changes while the table is in use.

use super::Writer;
use crate::hash::KeyHash;
use crate::header::{
    CHANGING, CHANGING_MAX, CHANGING_MORE, CHANGING_POLICIES, CHANGING_POLICIES_WORDS,
    CLOCK_OFFSET, DOUBTFUL, INSTANCE, LEASE_UNTIL, POLICIES, POLICY_EPOCH, POLICY_FINGERPRINT,
    POLICY_FLOORS, SESSION, STATE, STATE_SERVING, STATE_SUPERSEDED, STRICT_FLOOR, UNSETTLED,
    USABLE_SEGMENTS, VERSION_CEILING,
};
use crate::memory::MemoryMut;

impl<M: MemoryMut> Writer<M> {
    /// Lets readers in. Whoever sees this state sees everything stored before.
    pub fn open_for_readers(&self) {
        self.memory.fence_release();
        crate::fault_point!("state.serving");
        self.store(STATE, STATE_SERVING);
    }

    /// Sends readers to another table (R0).
    pub fn supersede(&self) {
        self.memory.fence_release();
        crate::fault_point!("state.superseded");
        self.store(STATE, STATE_SUPERSEDED);
    }

    /// Declares the first `segments` segments usable (W1), after their memory was allocated. The
    /// fence partners with the one of [`Reader::usable_bytes`](crate::Reader::usable_bytes).
    pub fn set_usable_segments(&self, segments: u32) {
        self.memory.fence_release();
        crate::fault_point!("usable.segments");
        self.store(USABLE_SEGMENTS, u64::from(segments));
    }

    /// Segments, from the first on, that may be used; the others have no memory yet.
    pub fn usable_segments(&self) -> u32 {
        self.geometry.usable(self.load(USABLE_SEGMENTS))
    }

    /// Allows versions up to `ceiling` to be given out (W5). Never lowers the ceiling.
    pub fn set_version_ceiling(&self, ceiling: u64) {
        crate::fault_point!("version.ceiling");
        self.store(VERSION_CEILING, ceiling.max(self.version_ceiling()));
        // Before any entry with such a version.
        self.memory.fence_release();
    }

    /// The version above which none has been given out.
    pub fn version_ceiling(&self) -> u64 {
        self.load(VERSION_CEILING)
    }

    /// Counts one more owner, and returns the count.
    pub fn next_instance(&self) -> u64 {
        let instance = self.load(INSTANCE).wrapping_add(1);
        crate::fault_point!("instance.next");
        self.store(INSTANCE, instance);
        instance
    }

    /// Copies everything but identity, state and entries from `other`'s header (W11): ceiling,
    /// instance, policy, what is unsettled, floors, lease and clock. For a table of the same epoch
    /// without readers.
    pub fn inherit<N: MemoryMut>(&self, other: &Writer<N>) {
        for word in [VERSION_CEILING, INSTANCE, POLICY_FINGERPRINT, POLICY_EPOCH] {
            crate::fault_point!("inherit.owner");
            self.store(word, other.load(word));
        }
        for word in [UNSETTLED, SESSION[0], SESSION[1]] {
            crate::fault_point!("inherit.unsettled");
            self.store(word, other.load(word));
        }
        let bits = DOUBTFUL..CHANGING_POLICIES + CHANGING_POLICIES_WORDS;
        for word in bits.chain(CHANGING..CHANGING + CHANGING_MAX) {
            crate::fault_point!("inherit.changing");
            self.store(word, other.load(word));
        }
        for word in [STRICT_FLOOR, LEASE_UNTIL, CLOCK_OFFSET] {
            crate::fault_point!("inherit.hot");
            self.store(word, other.load(word));
        }
        for word in POLICY_FLOORS..POLICY_FLOORS + POLICIES {
            crate::fault_point!("inherit.floor");
            self.store(word, other.load(word));
        }
    }

    /// Fingerprint of the policy that the entries were stored under.
    pub fn policy_fingerprint(&self) -> u64 {
        self.load(POLICY_FINGERPRINT)
    }

    /// Stores the fingerprint of the policy in force. Floors and slots that were stored before are
    /// before it for a restart, too.
    pub fn set_policy_fingerprint(&self, fingerprint: u64) {
        // One process's stores reach memory that outlives it in program order; the fence keeps the
        // compiler from changing that.
        self.memory.fence_release();
        crate::fault_point!("policy.fingerprint");
        self.store(POLICY_FINGERPRINT, fingerprint);
    }

    /// The epoch of the policy in force.
    pub fn policy_epoch(&self) -> u64 {
        self.load(POLICY_EPOCH)
    }

    /// Tells clients that another policy is in force, which the daemon must hand out by now: who
    /// sees the new epoch asks for it, so no fence is needed.
    pub fn set_policy_epoch(&self, epoch: u64) {
        crate::fault_point!("policy.epoch");
        self.store(POLICY_EPOCH, epoch.max(self.policy_epoch()));
    }

    /// Notes whether a tier may still carry out a change that it has not answered, or owes one, and
    /// over which session: two words that only the daemon understands. To be called before the
    /// first byte of a change is sent, so that a restart never finds too little.
    pub fn set_unsettled(&self, session: Option<[u64; 2]>) {
        if let Some([server, client]) = session {
            // A kill in between must not leave one server with another one's client.
            for (word, value) in [(SESSION[1], 0), (SESSION[0], server), (SESSION[1], client)] {
                crate::fault_point!("unsettled.session");
                self.store(word, value);
                self.memory.fence_release();
            }
        }
        crate::fault_point!("unsettled.mark");
        self.store(UNSETTLED, u64::from(session.is_some()));
    }

    /// What was noted last. A damaged word counts as "unsettled".
    pub fn unsettled(&self) -> Option<[u64; 2]> {
        (self.load(UNSETTLED) != 0).then(|| SESSION.map(|word| self.load(word)))
    }

    /// Notes in word `index` the hash of a key whose change is about to be sent to a tier; `None`: a
    /// word that is free. An index beyond the words changes nothing.
    pub fn set_changing(&self, index: usize, key: Option<KeyHash>) {
        if index < CHANGING_MAX {
            // After what L1 has of a key that is in change no more, and before anything that
            // follows: bytes that are sent, or another key's word.
            self.memory.fence_release();
            crate::fault_point!("changing.key");
            self.store(CHANGING + index, key.map_or(0, |hash| hash.0));
            self.memory.fence_release();
        }
    }

    /// Notes of the key in word `index` whether only a tier may still change it: L1 already has what
    /// its writer is told.
    pub fn set_doubtful(&self, index: usize, is_doubtful: bool) {
        if index < CHANGING_MAX {
            let (word, bit) = (DOUBTFUL + index / 64, 1 << (index % 64));
            let bits = self.load(word);
            if is_doubtful == (bits & bit != 0) {
                return;
            }
            // What L1 has is stored before.
            self.memory.fence_release();
            crate::fault_point!("changing.doubtful");
            self.store(word, bits ^ bit);
        }
    }

    /// Notes whether keys without a word are in doubt.
    pub fn set_changing_more(&self, has_more: bool) {
        self.memory.fence_release();
        crate::fault_point!("changing.more");
        self.store(CHANGING_MORE, u64::from(has_more));
        self.memory.fence_release();
    }

    /// Notes whether keys of `policy` are in change and have no word.
    pub fn set_changing_policy(&self, policy: u8, is_changing: bool) {
        let (word, bit) = (CHANGING_POLICIES + policy as usize / 64, 1 << (policy % 64));
        let others = self.load(word) & !bit;
        // As for a key's word.
        self.memory.fence_release();
        crate::fault_point!("changing.policy");
        self.store(word, others | if is_changing { bit } else { 0 });
        self.memory.fence_release();
    }

    /// The keys in change, as they were noted last: the word's index, the hash, and whether only a
    /// tier may still change the key.
    pub fn changing(&self) -> impl Iterator<Item = (usize, KeyHash, bool)> {
        (0..CHANGING_MAX).filter_map(|index| {
            let hash = self.load(CHANGING + index);
            let is_doubtful = self.load(DOUBTFUL + index / 64) >> (index % 64) & 1 == 1;
            (hash != 0).then_some((index, KeyHash(hash), is_doubtful))
        })
    }

    /// Whether keys without a word are in doubt.
    pub fn changing_more(&self) -> bool {
        self.load(CHANGING_MORE) & 1 != 0
    }

    /// The policies of which keys are in change and have no word.
    pub fn changing_policies(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|policy| {
            let word = self.load(CHANGING_POLICIES + *policy as usize / 64);
            word >> (policy % 64) & 1 != 0
        })
    }

    /// Hides all entries of `policy` with a version below `version`. Never lowers the floor (W5).
    pub fn raise_policy_floor(&self, policy: u8, version: u64) {
        let word = POLICY_FLOORS + policy as usize;
        crate::fault_point!("policy.floor");
        self.store(word, version.max(self.load(word)));
    }

    /// The floor of `policy`.
    pub fn policy_floor(&self, policy: u8) -> u64 {
        self.load(POLICY_FLOORS + policy as usize)
    }

    /// Hides all strict entries with a version below `version`. Never lowers the floor (W5).
    pub fn raise_strict_floor(&self, version: u64) {
        crate::fault_point!("strict.floor");
        self.store(STRICT_FLOOR, version.max(self.load(STRICT_FLOOR)));
    }

    /// The floor of strict entries.
    pub fn strict_floor(&self) -> u64 {
        self.load(STRICT_FLOOR)
    }

    /// Renews the lease of strict entries, to `until_ns` nanoseconds since the table's epoch; a
    /// reader's clock may be 10 ms late. To be called after every entry that has become invalid is
    /// cleared or below the floor (W8): whoever sees the new lease sees that, too. The fence
    /// partners with the one of R8.
    pub fn set_lease_until(&self, until_ns: u64) {
        self.memory.fence_release();
        crate::fault_point!("lease.until");
        self.store(LEASE_UNTIL, until_ns);
    }

    /// Stores what readers add to CLOCK_MONOTONIC, in nanoseconds (R7).
    pub fn set_clock_offset(&self, offset_ns: u64) {
        crate::fault_point!("clock.offset");
        self.store(CLOCK_OFFSET, offset_ns);
    }

    /// What readers add to CLOCK_MONOTONIC, in nanoseconds (R7).
    pub fn clock_offset(&self) -> u64 {
        self.load(CLOCK_OFFSET)
    }
}

/// Sends away the readers of a table whose header may be damaged (S2).
///
/// # Safety
/// `memory` holds at least a header, and nobody else writes it.
pub unsafe fn supersede(memory: &impl MemoryMut) {
    memory.fence_release();
    crate::fault_point!("former.superseded");
    // SAFETY: the state word is part of the header.
    unsafe { memory.store(STATE, STATE_SUPERSEDED) };
}
