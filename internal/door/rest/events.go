package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
)

var changeNames = map[fsapi.ChangeKind]string{
	fsapi.ChangeCreate: "create", fsapi.ChangeRemove: "remove", fsapi.ChangeRename: "rename",
	fsapi.ChangeContent: "content", fsapi.ChangeAttr: "attr",
}

// keepAlive is how often an idle feed says that it lives, so that proxies and
// clients notice a dead connection.
const keepAlive = 15 * time.Second

// events streams changes as server-sent events (WHATWG HTML, 9.2). The id of
// an event is its batch's number: a client that resumes may see the last
// batch's events again, never miss one.
func (d *Door) events(w http.ResponseWriter, r *http.Request) error {
	if err := allowed(r, "from"); err != nil {
		return err
	}
	from, err := d.eventsFrom(r)
	if err != nil {
		return err
	}
	only := r.URL.Query().Get("volume")
	s := &sse{w: w, ctl: http.NewResponseController(w)}
	type item struct {
		seq     uint64
		changes []fsapi.Change
	}
	items := make(chan item)
	done := make(chan error, 1)
	ctx := r.Context()
	go func() {
		done <- d.o.Feed.Follow(ctx, from, func(seq uint64, changes []fsapi.Change) error {
			select {
			case items <- item{seq, changes}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	opened := time.NewTimer(10 * time.Millisecond) // an answer at once, unless Follow refuses at once
	defer opened.Stop()
	for {
		select {
		case it := <-items:
			for i := range it.changes {
				e := d.eventOf(it.seq, &it.changes[i])
				if only != "" && e.Volume != only {
					continue
				}
				if err := s.send(e); err != nil {
					return drain(ctx.Done(), done)
				}
			}
		case <-tick.C:
			s.comment()
		case <-opened.C:
			s.comment()
		case err := <-done:
			if ctx.Err() != nil || s.started {
				return nil
			}
			return err
		}
	}
}

// drain waits for the follower, which ends with the request's context.
func drain(ctxDone <-chan struct{}, done <-chan error) error {
	<-ctxDone
	<-done
	return nil
}

func (d *Door) eventsFrom(r *http.Request) (uint64, error) {
	s := r.Header.Get("Last-Event-ID")
	if s == "" {
		s = r.URL.Query().Get("from")
	}
	if s == "" {
		return d.o.Feed.Last() + 1, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fsapi.Errorf(fsapi.Invalid, "%q is not the id of an event", s)
	}
	return n, nil
}

func (d *Door) eventOf(seq uint64, c *fsapi.Change) api.Event {
	return api.Event{
		Seq: seq, Kind: changeNames[c.Kind], Ino: uint64(c.Ino), Dir: uint64(c.Dir), Name: c.Name,
		FromDir: uint64(c.FromDir), From: c.From, Door: c.Door, Type: typeNames[c.Type], Volume: d.o.Feed.VolumeName(c.Volume),
	}
}

// sse writes server-sent events.
type sse struct {
	w       http.ResponseWriter
	ctl     *http.ResponseController
	started bool
}

func (s *sse) start() {
	if !s.started {
		s.started = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("Cache-Control", "no-store")
	}
}

func (s *sse) send(e api.Event) error {
	s.start()
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.w, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Kind, b); err != nil {
		return err
	}
	return s.ctl.Flush()
}

// comment is a line that clients ignore; a failed write shows in the context.
func (s *sse) comment() {
	s.start()
	_, _ = fmt.Fprint(s.w, ":\n\n")
	_ = s.ctl.Flush()
}
