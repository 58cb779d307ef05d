// Package chaos lives through the life of a store in which everything that may
// fail does: drives that are lost, return, fill, lie, hang, dawdle and rot, buckets
// that are away or leave open what became of a request, a disk of the metadata log
// that fails for a while, kills at any instant, while clients write, policies and
// keys change, snapshots come and go and upkeep works.
//
// It owns: what goes wrong and when, the account of what may go wrong without
// loss, and what must hold then. It must not know how any layer keeps its
// promises.
//
// A life is one seed: one goroutine chooses steps, in a synctest bubble, in which
// time passes only where somebody waits for it, and in which each step is waited
// for with all that it started. Drives take their time while the locks of a
// writer are held; a lock over calls of drives must therefore be one that a
// bubble's time passes under.
//
// The account is exact: before harm is done it is looked up, for each segment on
// record, what the drives physically hold of it that is good and can be reached
// now, and harm that a policy does not have to outlive is not done. Only records
// count that a kill cannot take back. So every byte that was acknowledged must be
// readable at every moment.
//
// # What repeats
//
// Steps, harm, the operations of each client, which calls fail, which come late,
// where a kill comes and what it leaves of the disk are drawn from the seed, and
// from what is asked and when by the bubble's clock. What does not repeat exactly
// is the order of goroutines that run at the same instant, the order in which Go
// walks maps, and what follows from these: the ids of segments, which of them a
// step picks, and the last of the calls before a kill. With GOMAXPROCS=1 most lives
// go the same way each time; a failure that depends on the order comes back after
// some attempts:
//
//	GOMAXPROCS=1 go test ./test/chaos -run '^TestChaos$' -seed 11 -steps 200 -count 20 -failfast
package chaos
