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
// # All state in a bucket
//
// One life in three keeps its metadata by kv/bucket in a bucket of its own, with every
// size so small that it is met. What becomes of that bucket's requests is drawn from
// the seed: for a while nothing answers, or late, or what became of a request stays
// open: it took place, did not, or does minutes after it was given up, also after its
// process has ended and another has taken over. A kill leaves the next process the
// cache as it was, one that is torn or has bits flipped, or none, as on another
// machine. Now and then another wants the metadata while a process starts.
//
// A process is stopped at some request, while it works, and another takes over, which
// works; then the first goes on. It must be refused. What it was told is durable its
// successor has, and nothing of it comes to be seen later. Its drives are wrapped as
// a daemon's are, so that it deletes nothing of the other's. A follower that looks on
// shows states that there were, none older than the one before, and once it was
// asked to catch up all that was durable. In the end a machine that has nothing shows
// the same tree, and the bucket holds no more than counts, and the objects that fence
// processes off, one each.
//
// There the bucket's requests take time while locks are held, of whatever package:
// only the binary of tools/chaos, in which a bubble's time passes while a mutex is
// waited for, lives all of it. In any other the bucket fails and answers at once, and
// nobody is stopped or followed.
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
// from what is asked and when by the bubble's clock. What else a life depends on is
// up to the Go runtime: the order of goroutines that run at the same instant and
// where they are preempted, timers of the same instant, which of several cases of a
// select that are ready is taken, the order of maps, when garbage is collected.
//
// tools/chaos builds a binary in which chance decides all that too, from the seed:
// package repeat says how. In it a life goes the same way each time, call by call, on
// the same kind of machine, for as long as the code, the Go version and the number of
// steps are the same, whatever else the machine does meanwhile: of seeds 1 to 40, 200
// steps each, on a busy machine, all did. Goroutines are preempted more often there
// than by the clock, and those that were just woken wait for a turn now and then, so
// that a seed of one order stands for many. These live one again, and say whether its
// calls are the same twice:
//
//	tools/chaos 11 11
//	CHAOS_TWICE=1 tools/chaos 11 11
//
// Where memory lies is part of what decides: a map whose keys are pointers, as that of
// a context's children is, is in the order of the hashes of their addresses, and grows
// earlier or later by them. So a process is given the same environment and arguments,
// to the byte, each time, and nothing takes memory, or more of a goroutine's stack, by
// the clock. If a life ever goes another way the second time, that is where to look
// first: before the first call that differs there was, maybe long before, a first
// span of memory, a first growth of a stack or a first goroutine that ran.
//
// Every call of the file system, of drives and of buckets is on account: how many and
// their sum are in the story at the end of each step, and CHAOS_CALLS=1 keeps
// them all.
//
// In any other binary the order is another one each time, and a failure that depends
// on it comes back after some attempts:
//
//	GOMAXPROCS=1 go test ./test/chaos -run '^TestChaos$' -seed 11 -steps 200 -count 20 -failfast
package chaos
