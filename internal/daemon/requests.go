package daemon

import "github.com/strakefs/strake/internal/object"

// requests adds up what was asked of the open buckets: what their providers
// bill.
func (ds *drives) requests() (sum object.Requests) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, w := range ds.watched {
		b, ok := undecorated(w).(interface{ Requests() object.Requests })
		if !ok {
			continue
		}
		r := b.Requests()
		sum.Puts, sum.Gets, sum.Heads, sum.Lists = sum.Puts+r.Puts, sum.Gets+r.Gets, sum.Heads+r.Heads, sum.Lists+r.Lists
		sum.Deletes, sum.Retries, sum.Sent, sum.Read = sum.Deletes+r.Deletes, sum.Retries+r.Retries, sum.Sent+r.Sent, sum.Read+r.Read
	}
	return sum
}
