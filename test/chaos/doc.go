// Package chaos lives through the life of a store in which everything that may
// fail does: drives that are lost, return, fill, lie, hang and rot, buckets that
// are away or leave open what became of a request, kills at any instant, while
// clients write, policies change, snapshots come and go and upkeep works.
//
// It owns: what goes wrong and when, the account of what may go wrong without
// loss, and what must hold then. It must not know how any layer keeps its
// promises.
//
// A life is one seed: one goroutine chooses steps, in a synctest bubble, in which
// time passes only where a step lets it pass, and in which each step is waited
// for with all that it started. What is chosen below depends on the seed and on
// what is asked, not on the order of goroutines. Nothing waits for time while it
// holds a lock: a bubble's time stands still while anybody waits for a mutex. So
// a drive that hangs is one that has run into its deadline at once.
//
// The account is exact: before harm is done it is looked up, for each segment on
// record, what the drives physically hold of it that is good and can be reached
// now, and harm that a policy does not have to outlive is not done. So every byte
// that was acknowledged must be readable at every moment.
package chaos
