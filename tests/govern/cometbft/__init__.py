"""CometBFT, and the ledger on it.

| what is shown                                          | where                                    |
|--------------------------------------------------------|------------------------------------------|
| the same roots on every engine, changes of validators  | `test_chains`                            |
| what the application says, proposes, votes, and keeps  | `test_bridge`, `test_bridge_snapshots`   |
| what it is told of signers; dishonest proposers        | `test_bridge_signers`                    |
| receipts, and what becomes of what waits               | `test_engine`                            |
| real processes: kills, twins, elections, state sync,   | `test_ledgers`                           |
| lies, floods; and all that is seen from outside        | `outside`                                |
| hosts that are cut from each other                     | `test_partitions`                        |

`consensus` is CometBFT as an application knows it, without its process; `network` and `ledgers` start processes.
"""
