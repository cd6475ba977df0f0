//! TCP's sequence numbers and SCTP's verification tags: which packets count for the state of a connection.
//!
//! Anybody can send a packet with the addresses and ports of a connection. Its flags count only if the numbers beside them
//! are those of the connection's ends. Other packets are passed on, for the receiver to judge, and change nothing.
//!
//! A row has room for one number, [`FlowRow::acknowledged`]. Until its direction has acknowledged anything, the number is
//! the one that the handshake needs next:
//!
//! | after | row of the originator | row of the replier |
//! |---|---|---|
//! | SYN | the SYN's number + 1 | |
//! | SYN-ACK, if it acknowledges that | the SYN-ACK's number + 1 | what it acknowledges |
//! | ACK, if it acknowledges that | what it acknowledges | |

use crate::wire::bytes::Address;
use crate::wire::ip::protocol;
use crate::wire::transport::Transport;
use crate::wire::transport::tcp_flag::{ACK, FIN, RST, SYN};

use super::row::FlowRow;

/// How far the sequence number of a FIN or RST may be ahead of what the other side has acknowledged: the data that may be in
/// flight. RFC 5961 §3.2 requires an exact match of a host, which can send a challenge ACK; a NAT cannot.
const WINDOW: u32 = 1 << 17;

/// The most data that a SYN may hold (RFC 7413 §4.2.1: one segment); its answer may acknowledge them.
const FAST_OPEN: u32 = 1 << 14;

/// Notes in both rows of a connection what one of its packets shows. `own` is the row of the packet's direction.
#[inline(always)]
pub fn note<A: Address>(number: u8, own: &mut FlowRow<A>, partner: &mut FlowRow<A>, transport: &Transport) {
    match number {
        protocol::TCP => note_tcp(own, partner, transport),
        protocol::SCTP => note_sctp(own, partner, transport),
        _ => {}
    }
}

#[inline(always)]
fn note_tcp<A: Address>(own: &mut FlowRow<A>, partner: &mut FlowRow<A>, transport: &Transport) {
    let Transport { sequence, acknowledgement, mut tcp_flags, .. } = *transport;
    let (mine, theirs) = (own.seen().flags, partner.seen().flags);
    let is_answered = (mine | theirs) & ACK != 0;
    let next = if is_answered { partner.acknowledged } else { own.acknowledged };
    if next != 0 && sequence.wrapping_sub(next) > WINDOW {
        tcp_flags &= !(FIN | RST);
    }
    // Everything behind the SYN has an ACK (RFC 9293 §3.10.7.4).
    if tcp_flags & ACK == 0 {
        tcp_flags &= !FIN;
    }
    // What refuses a SYN acknowledges it (RFC 9293 §3.5.2).
    if !is_answered && theirs & SYN != 0 && tcp_flags & ACK == 0 {
        tcp_flags &= !RST;
    }
    if tcp_flags & (SYN | ACK) == SYN {
        if is_answered {
            // A connection goes on, whatever a SYN says: its receiver answers with a challenge ACK (RFC 9293 §3.10.7.4).
            tcp_flags &= !SYN;
        } else {
            own.acknowledged = sequence.wrapping_add(1);
        }
    }
    if tcp_flags & ACK != 0 {
        if mine & ACK == 0 {
            if !acknowledges(own, partner, acknowledgement) {
                return;
            }
            if theirs & ACK == 0 {
                partner.acknowledged = match own.acknowledged {
                    _ if tcp_flags & SYN != 0 => sequence.wrapping_add(1),
                    // A connection that is picked up in its middle.
                    0 => sequence,
                    after_syn => after_syn,
                };
            }
        } else if theirs & (SYN | ACK) == SYN && is_ahead(acknowledgement, own.acknowledged) {
            // The replier has received data, so the handshake is complete. Its last ACK did not come by here, or
            // acknowledged data as well that came with the SYN-ACK.
            partner.add_flags(ACK);
        }
        own.acknowledged = acknowledgement;
    }
    own.add_flags(tcp_flags);
}

/// Whether the first acknowledgement of a direction is the right one: of exactly the SYN or SYN-ACK of the other side, if one
/// was seen; of data that the other side may have sent, if the connection was picked up in its middle.
#[inline(always)]
fn acknowledges<A: Address>(own: &FlowRow<A>, partner: &FlowRow<A>, acknowledgement: u32) -> bool {
    let theirs = partner.seen().flags;
    if theirs & ACK == 0 {
        return theirs & SYN == 0 || acknowledgement.wrapping_sub(partner.acknowledged) <= FAST_OPEN;
    }
    match own.acknowledged {
        0 => true,
        expected if theirs & SYN != 0 => acknowledgement == expected,
        expected => acknowledgement.wrapping_sub(expected).wrapping_add(WINDOW) <= 2 * WINDOW,
    }
}

/// Whether a number is ahead of another one by no more than what may be in flight.
#[inline(always)]
const fn is_ahead(number: u32, of: u32) -> bool {
    let distance = number.wrapping_sub(of);
    distance != 0 && distance <= WINDOW
}

/// SCTP: all packets of a direction have the tag that the other side has chosen in its INIT or INIT ACK (RFC 9260 §8.5). What
/// ends an association may have the other direction's tag instead (§8.5.1).
#[inline(always)]
fn note_sctp<A: Address>(own: &mut FlowRow<A>, partner: &mut FlowRow<A>, transport: &Transport) {
    let Transport { sequence: initiate_tag, acknowledgement: tag, tcp_flags, .. } = *transport;
    let is_answered = (own.seen().flags | partner.seen().flags) & ACK != 0;
    if transport.opens() {
        if is_answered {
            return;
        }
    } else if own.acknowledged == 0 || tag == own.acknowledged {
        own.acknowledged = tag;
    } else if tcp_flags & (FIN | RST) == 0 || tag != partner.acknowledged {
        return;
    }
    if tcp_flags & SYN != 0 && partner.seen().flags & ACK == 0 {
        partner.acknowledged = initiate_tag;
    }
    own.add_flags(tcp_flags);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::State;
    use crate::flow::row::direction;
    use crate::wire::bytes::{Be16, Ipv4};
    use crate::wire::transport::Layout;

    /// A connection whose packets are noted one by one.
    struct Talk {
        number: u8,
        originator: FlowRow<Ipv4>,
        replier: FlowRow<Ipv4>,
    }

    /// Who sends a packet.
    #[derive(Clone, Copy)]
    enum By {
        Originator,
        Replier,
    }
    use By::{Originator, Replier};

    impl Talk {
        fn new(number: u8) -> Self {
            let replier = FlowRow { bits: direction::REPLY, ..FlowRow::default() };
            Self { number, originator: FlowRow::default(), replier }
        }

        /// Sends a packet; returns the state after it.
        fn send(&mut self, by: By, tcp_flags: u8, sequence: u32, acknowledgement: u32) -> State {
            let port = Be16::new(1);
            let bare = Transport::bare(port, port);
            let packet = Transport { layout: Layout::Tcp, tcp_flags, sequence, acknowledgement, ..bare };
            let (own, partner) = match by {
                Originator => (&mut self.originator, &mut self.replier),
                Replier => (&mut self.replier, &mut self.originator),
            };
            own.last = 1;
            note(self.number, own, partner, &packet);
            self.originator.state(self.number, Some(&self.replier))
        }

        /// An open TCP connection: the originator goes on with 1001, the replier with 5001.
        fn open() -> Self {
            let mut talk = Self::new(protocol::TCP);
            assert_eq!(talk.send(Originator, SYN, 1000, 0), State::SynSent);
            assert_eq!(talk.send(Replier, SYN | ACK, 5000, 1001), State::SynReceived);
            assert_eq!(talk.send(Originator, ACK, 1001, 5001), State::Established);
            talk
        }
    }

    #[test]
    fn only_the_handshakes_own_numbers_open_a_connection() {
        let mut talk = Talk::new(protocol::TCP);
        talk.send(Originator, SYN, 1000, 0);
        for blind in [0, 1, 1000, 1002 + FAST_OPEN] {
            assert_eq!(talk.send(Replier, SYN | ACK, 7, blind), State::SynReceived);
        }
        talk.send(Replier, SYN | ACK, 5000, 1001);
        for blind in [0, 5000, 5002, 12345] {
            assert_eq!(talk.send(Originator, ACK, 1001, blind), State::SynReceived);
            assert_eq!(talk.send(Originator, ACK | FIN, 1001, blind), State::SynReceived);
        }
        talk.send(Replier, SYN | ACK, 5000, 1001);
        assert_eq!(talk.send(Originator, ACK, 1001, 5001), State::Established);
    }

    #[test]
    fn the_last_syn_before_an_answer_counts() {
        let mut talk = Talk::new(protocol::TCP);
        talk.send(Originator, SYN, 1000, 0);
        talk.send(Originator, SYN, 9000, 0);
        talk.send(Replier, SYN | ACK, 5000, 9001);
        // Somebody's guess.
        talk.send(Originator, SYN, 77, 0);
        assert_eq!(talk.send(Originator, ACK, 9001, 5001), State::Established);
    }

    #[test]
    fn both_may_open_at_once() {
        let mut talk = Talk::new(protocol::TCP);
        talk.send(Originator, SYN, 1000, 0);
        talk.send(Replier, SYN, 5000, 0);
        assert_eq!(talk.send(Originator, SYN | ACK, 1000, 5001), State::SynReceived);
        assert_eq!(talk.send(Replier, SYN | ACK, 5000, 1001), State::Established);
    }

    #[test]
    fn data_that_are_acknowledged_stand_for_the_end_of_the_handshake() {
        // With data in the SYN and behind the SYN-ACK (RFC 7413), the last ACK acknowledges more than the SYN-ACK.
        let mut talk = Talk::new(protocol::TCP);
        talk.send(Originator, SYN, 1000, 0);
        talk.send(Replier, SYN | ACK, 5000, 1501);
        talk.send(Replier, ACK, 5001, 1501);
        assert_eq!(talk.send(Originator, ACK, 1501, 6001), State::SynReceived);
        assert_eq!(talk.send(Replier, ACK, 6001, 1502), State::Established);
    }

    #[test]
    fn a_connection_is_picked_up_in_its_middle_if_both_sides_numbers_fit() {
        let mut talk = Talk::new(protocol::TCP);
        assert_eq!(talk.send(Originator, ACK, 1000, 5000), State::SynSent);
        assert_eq!(talk.send(Replier, ACK, 5000, 1_001_000), State::SynReceived);
        assert_eq!(talk.send(Replier, ACK, 5000, 900), State::Established, "the rest is in flight");
    }

    #[test]
    fn an_end_counts_where_the_other_side_expects_it() {
        for (end, ended) in [(FIN | ACK, State::FinWait), (RST, State::Closed), (RST | ACK, State::Closed)] {
            for by in [Originator, Replier] {
                let (next, other) = if matches!(by, Originator) { (1001, 5001) } else { (5001, 1001) };
                let mut talk = Talk::open();
                for blind in [0, 1, next - 1, next + WINDOW + 1, u32::MAX] {
                    assert_eq!(talk.send(by, end, blind, other), State::Established, "{blind}");
                }
                assert_eq!(talk.send(by, end, next + WINDOW, other), ended);
            }
        }
        // Numbers wrap.
        let mut talk = Talk::open();
        talk.send(Replier, ACK, 5001, u32::MAX);
        assert_eq!(talk.send(Originator, FIN | ACK, 5, 5001), State::FinWait);
    }

    #[test]
    fn a_syn_does_not_touch_a_connection_that_goes_on() {
        let mut talk = Talk::open();
        talk.send(Replier, FIN | ACK, 5001, 1001);
        let before = (talk.originator, talk.replier);
        assert_eq!(talk.send(Originator, SYN, 33, 0), State::FinWait);
        assert_eq!((talk.originator, talk.replier), before);
    }

    #[test]
    fn a_refusal_acknowledges_the_syn() {
        let mut talk = Talk::new(protocol::TCP);
        talk.send(Originator, SYN, 1000, 0);
        assert_eq!(talk.send(Replier, RST, 0, 0), State::SynReceived);
        assert_eq!(talk.send(Replier, RST | ACK, 0, 77), State::SynReceived);
        assert_eq!(talk.send(Replier, RST | ACK, 0, 1001), State::Closed);
    }

    #[test]
    fn an_association_is_known_by_its_tags() {
        let mut talk = Talk::new(protocol::SCTP);
        talk.send(Originator, SYN, 7, 0);
        assert_eq!(talk.send(Replier, SYN | ACK, 9, 8), State::SynReceived);
        assert_eq!(talk.send(Replier, RST, 0, 8), State::SynReceived);
        talk.send(Replier, SYN | ACK, 9, 7);
        assert_eq!(talk.send(Originator, ACK, 0, 8), State::SynReceived);
        assert_eq!(talk.send(Originator, ACK, 0, 9), State::Established);
        assert_eq!(talk.send(Originator, SYN, 4, 0), State::Established);
        assert_eq!(talk.send(Replier, FIN | ACK, 0, 8), State::Established);
        assert_eq!(talk.send(Replier, FIN | ACK, 0, 7), State::FinWait);
        assert_eq!(talk.send(Originator, RST, 0, 7), State::Closed, "reflected");
    }
}
