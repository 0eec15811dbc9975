//! `MESH`: operators' commands. The table has them for access rules and for `COMMAND`; what they
//! say is in the other files of this folder.

use crate::commands::spec::{Flags, Spec, Work};

const TELL: Spec = Spec {
    arity: -2,
    flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE),
    group: "mesh",
    since: "0.1.0",
    complexity: "O(N) in the number of nodes or ranges",
    work: Work::Mesh,
    ..Spec::BASE
};
const ORDER: Spec = Spec { flags: TELL.flags.and(Flags::ADMIN), complexity: "O(1)", ..TELL };

/// This family's part of the table.
pub(in crate::commands) const COMMANDS: &[Spec] = &[Spec {
    name: "mesh",
    flags: Flags::NONE,
    summary: "About the mesh, for operators.",
    complexity: "See the subcommands",
    work: Work::Subcommands,
    subcommands: &[
        Spec { name: "mesh|status", summary: "Tells whether all is well, and what is done about what is not.", ..TELL },
        Spec { name: "mesh|nodes", summary: "Lists the roster.", ..TELL },
        Spec { name: "mesh|map", summary: "Tells which drones hold which ranges.", ..TELL },
        Spec { name: "mesh|locate", arity: -3, summary: "Tells who holds a key.", complexity: "O(1)", ..TELL },
        Spec { name: "mesh|explain", arity: -3, summary: "Tells why a range, slot or node is as it is.", ..TELL },
        Spec {
            name: "mesh|verify",
            summary: "Tells whether all holders hold the same.",
            complexity: "O(N) in the number of keys",
            ..TELL
        },
        Spec { name: "mesh|watch", summary: "Tells what happens from now on.", ..TELL },
        Spec { name: "mesh|stepdown", summary: "Has the commander hand over, to a named node if wished.", ..ORDER },
        Spec { name: "mesh|drop", arity: -3, summary: "Takes a node whose process has ended off the roster.", ..ORDER },
        Spec { name: "mesh|drain", arity: -3, summary: "Has a node give away what it holds, and leave.", ..ORDER },
        Spec { name: "mesh|abort", arity: 3, summary: "Has a node that drains stay after all.", ..ORDER },
        Spec {
            name: "mesh|rebalance",
            summary: "Lists the moves under way, and tries those put off at once.",
            ..ORDER
        },
        Spec { name: "mesh|promote", arity: 3, summary: "Has a node vote.", ..ORDER },
        Spec { name: "mesh|demote", arity: 3, summary: "Has a node not vote.", ..ORDER },
        Spec { name: "mesh|pause", arity: 2, summary: "Has clients' writes wait; reads go on.", ..ORDER },
        Spec { name: "mesh|resume", arity: 2, summary: "Lets clients' writes go on.", ..ORDER },
        Spec { name: "mesh|help", arity: 2, summary: "Lists the subcommands.", ..TELL },
    ],
    ..TELL
}];
