package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
)

type jobCmd struct {
	List   jobListCmd   `cmd:"" help:"List jobs, the newest first."`
	Show   jobShowCmd   `cmd:"" help:"Show one job."`
	Kinds  jobKindsCmd  `cmd:"" help:"List what kinds of jobs there are, and their arguments."`
	Start  jobStartCmd  `cmd:"" help:"Start a job."`
	Pause  jobPauseCmd  `cmd:"" help:"Stop a job until it is resumed."`
	Resume jobResumeCmd `cmd:"" help:"Let a paused job go on."`
	Cancel jobCancelCmd `cmd:"" help:"End a job for good."`
	Rate   jobRateCmd   `cmd:"" help:"Change how fast all jobs may read, until the next start."`
}

type jobListCmd struct {
	All bool `help:"Those that have ended, too." short:"a"`
}

func (c *jobListCmd) Run(g *globals) error {
	l, err := jobs(g)
	if err != nil {
		return err
	}
	if !c.All {
		open := l.Jobs[:0]
		for _, j := range l.Jobs {
			if j.Ended == nil {
				open = append(open, j)
			}
		}
		l.Jobs = open
	}
	return g.out.value(l, func(w io.Writer) {
		if len(l.Jobs) == 0 {
			fmt.Fprintln(w, "no jobs (--all shows those that have ended)")
			return
		}
		var t [][]any
		for _, j := range l.Jobs {
			t = append(t, []any{j.ID, j.Kind, strings.Join(j.Args, " "), j.State, jobDone(j), jobRate(j), when(j.Created), strings.TrimSpace(j.Error + " " + j.Note)})
		}
		rows(w, []any{"JOB", "KIND", "OF", "STATE", "DONE", "RATE", "CREATED", "NOTE"}, t)
	})
}

func jobs(g *globals) (api.Jobs, error) {
	return client.Call[api.Jobs](g.ctx, g.client(), "GET", "/v1/admin/jobs", nil)
}

// jobDone is how far a job is.
func jobDone(j api.Job) string {
	text := fmt.Sprint(j.Done)
	if j.Total > 0 {
		text += fmt.Sprintf("/%d", j.Total)
	}
	if j.DoneBytes > 0 || j.TotalBytes > 0 {
		text += ", " + size(j.DoneBytes)
	}
	if j.TotalBytes > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", size(j.TotalBytes), min(100, j.DoneBytes*100/j.TotalBytes))
	}
	return text
}

func jobRate(j api.Job) string {
	if j.State != "running" {
		return ""
	}
	return size(j.Rate) + "/s"
}

type jobShowCmd struct {
	ID uint64 `arg:"" help:"Number of the job."`
}

func (c *jobShowCmd) Run(g *globals) error {
	j, err := client.Call[api.Job](g.ctx, g.client(), "GET", "/v1/admin/jobs/show", api.JobID{ID: c.ID})
	if err != nil {
		return err
	}
	return g.out.value(j, func(w io.Writer) { printJob(w, j) })
}

func printJob(w io.Writer, j api.Job) {
	fmt.Fprintf(w, "job      %d\nkind     %s\nof       %s\nstate    %s\ndone     %s\n", j.ID, j.Kind, strings.Join(j.Args, " "), j.State, jobDone(j))
	fmt.Fprintf(w, "created  %s\nstarted  %s\nended    %s\n", when(j.Created), whenSet(j.Started), whenSet(j.Ended))
	for _, l := range [][2]string{{"rate", jobRate(j)}, {"note", j.Note}, {"error", j.Error}} {
		if l[1] != "" {
			fmt.Fprintf(w, "%-8s %s\n", l[0], l[1])
		}
	}
}

func whenSet(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return when(*t)
}

type jobKindsCmd struct{}

func (c *jobKindsCmd) Run(g *globals) error {
	l, err := jobs(g)
	if err != nil {
		return err
	}
	return g.out.value(l.Kinds, func(w io.Writer) {
		var t [][]any
		for _, k := range l.Kinds {
			t = append(t, []any{k.Kind, k.Usage, k.Help})
		}
		rows(w, []any{"KIND", "ARGUMENTS", "WHAT IT DOES"}, t)
	})
}

type jobStartCmd struct {
	Kind string   `arg:"" help:"Kind of job, as in 'strake job kinds'."`
	Args []string `arg:"" optional:"" help:"Its arguments."`
	Wait bool     `help:"Wait until it has ended; exit 1 if it failed."`
}

// jobPoll is how often a job that is waited for is asked about.
const jobPoll = 200 * time.Millisecond

func (c *jobStartCmd) Run(g *globals) error {
	j, err := client.Call[api.Job](g.ctx, g.client(), "POST", "/v1/admin/jobs", api.JobStart{Kind: c.Kind, Args: c.Args})
	if err != nil {
		return err
	}
	for c.Wait && j.Ended == nil {
		select {
		case <-g.ctx.Done():
			return g.ctx.Err()
		case <-time.After(jobPoll):
		}
		if j, err = client.Call[api.Job](g.ctx, g.client(), "GET", "/v1/admin/jobs/show", api.JobID{ID: j.ID}); err != nil {
			return err
		}
	}
	if err := g.out.done(j, "job %d (%s) is %s %s", j.ID, strings.TrimSpace(j.Kind+" "+strings.Join(j.Args, " ")), j.State, j.Note); err != nil {
		return err
	}
	if j.State == "failed" {
		return fsapi.Errorf(fsapi.Other, "job %d failed: %s", j.ID, j.Error)
	}
	return nil
}

type jobPauseCmd struct {
	ID uint64 `arg:"" help:"Number of the job."`
}

func (c *jobPauseCmd) Run(g *globals) error { return moveJob(g, c.ID, "pause") }

type jobResumeCmd struct {
	ID uint64 `arg:"" help:"Number of the job."`
}

func (c *jobResumeCmd) Run(g *globals) error { return moveJob(g, c.ID, "resume") }

type jobCancelCmd struct {
	ID uint64 `arg:"" help:"Number of the job."`
}

func (c *jobCancelCmd) Run(g *globals) error { return moveJob(g, c.ID, "cancel") }

func moveJob(g *globals, id uint64, how string) error {
	j, err := client.Call[api.Job](g.ctx, g.client(), "POST", "/v1/admin/jobs/"+how, api.JobID{ID: id})
	if err != nil {
		return err
	}
	return g.out.done(j, "job %d is %s", j.ID, j.State)
}

type jobRateCmd struct {
	Rate sizeFlag `arg:"" help:"Bytes per second, as in 64MiB; 0: no bound."`
}

func (c *jobRateCmd) Run(g *globals) error {
	rate := int64(c.Rate)
	if rate == 0 {
		rate = -1
	}
	r, err := client.Call[api.JobRate](g.ctx, g.client(), "POST", "/v1/admin/jobs/rate", api.JobRate{Rate: rate})
	if err != nil {
		return err
	}
	if r.Rate < 0 {
		return g.out.done(r, "jobs read without a bound")
	}
	return g.out.done(r, "jobs read at most %s/s", size(r.Rate))
}
