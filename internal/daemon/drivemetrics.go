package daemon

import (
	"context"

	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/telemetry"
)

// samples are the figures of each drive: how it fares, what its calls took, and what
// room it has, where it says so in time.
func (ds *drives) samples(ctx context.Context) (out []telemetry.Sample) {
	ds.mu.Lock()
	var ids []fsapi.DriveID
	recs := map[fsapi.DriveID]meta.DriveRecord{}
	watched := map[fsapi.DriveID]*watch.Drive{}
	for id, rec := range ds.recs {
		ids, recs[id], watched[id] = append(ids, id), rec, ds.watched[id]
	}
	ds.mu.Unlock()
	_ = ds.waitRoom(ctx, ids) // without an answer there is no figure
	for _, id := range ids {
		name := recs[id].Name
		out = append(out, telemetry.Sample{
			Name: "drive_state", Help: "1 for the state that a drive is in.", Gauge: true, Value: 1,
			Labels: map[string]string{"drive": name, "state": ds.state(recs[id]).String()},
		})
		if w := watched[id]; w != nil {
			out = append(out, callSamples(name, w)...)
		}
		out = append(out, ds.roomSamples(name, id)...)
	}
	return out
}

// callSamples are what the calls of an open drive took.
func callSamples(name string, w *watch.Drive) (out []telemetry.Sample) {
	for _, op := range watch.Ops() {
		s := w.Stats(op)
		if s.Calls == 0 {
			continue
		}
		labels := map[string]string{"drive": name, "call": op.String()}
		out = append(out,
			telemetry.Sample{Name: "drive_calls_total", Help: "Calls of a drive that ended or were given up, by class.", Value: float64(s.Calls), Labels: labels},
			telemetry.Sample{Name: "drive_call_errors_total", Help: "Of these, the ones that failed in a way a drive is not to.", Value: float64(s.Errors), Labels: labels},
			telemetry.Sample{Name: "drive_call_bytes_total", Help: "Bytes read or written by these calls.", Value: float64(s.Bytes), Labels: labels},
			telemetry.Sample{Name: "drive_call_latency_seconds", Help: "What such a call took lately: the moving average, the last one counting an eighth.", Gauge: true, Value: s.Latency.Seconds(), Labels: labels})
	}
	return out
}

// roomSamples are what an open drive said last of its capacity.
func (ds *drives) roomSamples(name string, id fsapi.DriveID) []telemetry.Sample {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	r := ds.rooms[id]
	if r == nil || r.err != nil {
		return nil
	}
	labels := map[string]string{"drive": name}
	gauge := func(name, help string, v int64) telemetry.Sample {
		return telemetry.Sample{Name: name, Help: help, Gauge: true, Value: float64(v), Labels: labels}
	}
	return []telemetry.Sample{
		gauge("drive_total_bytes", "Size of the file system below a drive, or its quota.", r.cap.Total),
		gauge("drive_used_bytes", "Bytes of it in use, by others too.", r.cap.Used),
		gauge("drive_available_bytes", "Bytes that may be written to it.", r.cap.Avail),
	}
}
