//! The conntrack state of a connection, and how long it may be idle before it expires.
//!
//! Rows do not store the state. It is computed from what each direction has seen, so the two rows cannot disagree.

use crate::wire::ip::protocol;
use crate::wire::transport::tcp_flag::{ACK, FIN, RST, SYN};

/// What has been seen of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether any packet passed.
    pub any: bool,
    /// TCP flags of all packets whose numbers fit the connection, see [`numbers`](super::numbers).
    pub flags: u8,
}

/// The conntrack state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum State {
    /// TCP or SCTP: opened by one side, unreplied.
    SynSent = 0,
    /// TCP or SCTP: answered, the handshake not finished.
    SynReceived = 1,
    /// TCP or SCTP: open.
    Established = 2,
    /// TCP or SCTP: closed by one side.
    FinWait = 3,
    /// TCP or SCTP: closed by both sides.
    TimeWait = 4,
    /// TCP or SCTP: reset or aborted.
    Closed = 5,
    /// UDP: unreplied.
    UdpOneWay = 6,
    /// UDP: answered.
    UdpTwoWay = 7,
    /// ICMP echo.
    Echo = 8,
    /// Any other protocol.
    Generic = 9,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::TimeWait,
        Self::Closed,
        Self::UdpOneWay,
        Self::UdpTwoWay,
        Self::Echo,
        Self::Generic,
    ];

    /// The state with this number (`as u32`); generic for an unknown number.
    #[inline(always)]
    pub const fn numbered(number: u32) -> Self {
        if (number as usize) < Self::ALL.len() { Self::ALL[number as usize] } else { Self::Generic }
    }

    /// The state of a connection, from what its originator and its replier have sent.
    #[inline(always)]
    pub const fn of(protocol_number: u8, originator: Seen, replier: Seen) -> Self {
        let either = originator.flags | replier.flags;
        let both = originator.flags & replier.flags;
        match protocol_number {
            protocol::TCP | protocol::SCTP if either & RST != 0 => Self::Closed,
            // The replier's SYN has an ACK; the originator's ACK completes the handshake. A connection whose rows were
            // rebuilt has shown no SYN.
            protocol::TCP | protocol::SCTP if both & ACK == 0 && replier.any => Self::SynReceived,
            protocol::TCP | protocol::SCTP if both & ACK == 0 => Self::SynSent,
            protocol::TCP | protocol::SCTP if both & FIN != 0 => Self::TimeWait,
            protocol::TCP | protocol::SCTP if either & FIN != 0 => Self::FinWait,
            protocol::TCP | protocol::SCTP => Self::Established,
            protocol::UDP if replier.any => Self::UdpTwoWay,
            protocol::UDP => Self::UdpOneWay,
            protocol::ICMP | protocol::ICMPV6 => Self::Echo,
            _ => Self::Generic,
        }
    }

    /// Whether both sides have sent packets that confirm the connection. Assured connections are in a separate table.
    #[inline(always)]
    pub const fn is_assured(self) -> bool {
        matches!(self, Self::Established | Self::FinWait | Self::UdpTwoWay)
    }

    /// Whether both sides have ended the connection, or one has reset it.
    #[inline(always)]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::TimeWait | Self::Closed)
    }

    /// Whether a SYN of the originator opens a new connection on the same tuple: the old one has ended (RFC 9293
    /// §3.6.1), and a client may reuse its port at once.
    #[inline(always)]
    pub const fn may_begin_anew(self, flags: u8) -> bool {
        flags & (SYN | ACK) == SYN && self.has_ended()
    }

    /// Its name in JSON, as in conntrack.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Established => "established",
            Self::FinWait => "fin_wait",
            Self::TimeWait => "time_wait",
            Self::Closed => "closed",
            Self::UdpOneWay => "one_way",
            Self::UdpTwoWay => "two_way",
            Self::Echo => "echo",
            Self::Generic => "generic",
        }
    }

    /// The default idle timeout, seconds.
    ///
    /// TCP and generic: the defaults of nf_conntrack (`tcp_timeouts`, nf_conntrack_proto_tcp.c). RFC 5382 REQ-5
    /// requires at least 2 h 4 min for established and 4 min for transitory connections, so states with a shorter
    /// timeout in conntrack have 240 here. UDP: RFC 4787 REQ-5 requires at least 2 minutes. Echo: RFC 5508 REQ-2
    /// requires at least 60 seconds.
    pub const fn default_timeout(self) -> u32 {
        match self {
            Self::SynSent | Self::SynReceived | Self::FinWait | Self::TimeWait => 240,
            Self::Established => 432_000,
            Self::Closed => 10,
            Self::UdpOneWay => 120,
            Self::UdpTwoWay => 180,
            Self::Echo => 60,
            Self::Generic => 600,
        }
    }

    /// The source of the default.
    pub const fn default_source(self) -> &'static str {
        match self {
            Self::SynSent | Self::SynReceived | Self::FinWait | Self::TimeWait => {
                "RFC 5382 REQ-5: 4 min at least"
            }
            Self::Established => "nf_conntrack; RFC 5382 REQ-5: 2 h 4 min at least",
            Self::UdpOneWay => "RFC 4787 REQ-5: 2 min at least",
            Self::UdpTwoWay => "nf_conntrack before 5.0; RFC 4787 REQ-5: 2 min at least",
            Self::Echo => "RFC 5508 REQ-2: 60 s at least",
            Self::Closed | Self::Generic => "nf_conntrack",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Seen = Seen { any: false, flags: 0 };

    fn seen(flags: u8) -> Seen {
        Seen { any: true, flags }
    }

    #[test]
    fn a_connection_goes_through_its_states() {
        let tcp = |originator, replier| State::of(protocol::TCP, originator, replier);
        assert_eq!(tcp(seen(SYN), NONE), State::SynSent);
        assert_eq!(tcp(seen(SYN), seen(SYN | ACK)), State::SynReceived);
        assert_eq!(tcp(seen(SYN | ACK), seen(SYN | ACK)), State::Established);
        assert_eq!(tcp(seen(SYN | ACK | FIN), seen(SYN | ACK)), State::FinWait);
        assert_eq!(tcp(seen(SYN | ACK), seen(SYN | ACK | FIN)), State::FinWait);
        assert_eq!(tcp(seen(SYN | ACK | FIN), seen(SYN | ACK | FIN)), State::TimeWait);
        assert_eq!(tcp(seen(SYN | ACK), seen(SYN | ACK | RST)), State::Closed);
        assert_eq!(tcp(seen(SYN), seen(RST | ACK)), State::Closed);
        assert_eq!(tcp(seen(ACK), NONE), State::SynSent, "picked up in its middle, unanswered");
        assert_eq!(tcp(seen(ACK), seen(ACK)), State::Established, "picked up in its middle");
        assert_eq!(State::of(protocol::UDP, seen(0), NONE), State::UdpOneWay);
        assert_eq!(State::of(protocol::UDP, seen(0), seen(0)), State::UdpTwoWay);
        assert_eq!(State::of(protocol::ICMPV6, seen(0), seen(0)), State::Echo);
        assert_eq!(State::of(47, seen(0), NONE), State::Generic);
        assert_eq!(State::of(protocol::SCTP, seen(SYN | ACK), seen(SYN | ACK)), State::Established);
    }

    #[test]
    fn only_the_originators_syn_reopens_an_ended_connection() {
        for state in [State::TimeWait, State::Closed] {
            assert!(state.may_begin_anew(SYN));
            assert!(!state.may_begin_anew(ACK));
            assert!(!state.may_begin_anew(SYN | ACK));
        }
        for state in [State::SynSent, State::SynReceived, State::Established, State::FinWait] {
            assert!(!state.may_begin_anew(SYN), "a retransmission, or somebody's guess");
        }
    }

    #[test]
    fn timeouts_meet_the_rfcs() {
        let hours = |h: u32, m: u32| h * 3600 + m * 60;
        assert!(State::Established.default_timeout() >= hours(2, 4), "RFC 5382 REQ-5");
        for state in [State::SynSent, State::SynReceived, State::FinWait, State::TimeWait] {
            assert!(state.default_timeout() >= 240, "RFC 5382 REQ-5");
        }
        assert!(State::UdpOneWay.default_timeout() >= 120, "RFC 4787 REQ-5");
        assert!(State::Echo.default_timeout() >= 60, "RFC 5508 REQ-2");
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }
}
