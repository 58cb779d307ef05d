package main

import (
	"fmt"
	"io"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type trashCmd struct {
	List    trashListCmd    `cmd:"" help:"List deleted files, the oldest first."`
	Restore trashRestoreCmd `cmd:"" help:"Bring a deleted file back."`
	Empty   trashEmptyCmd   `cmd:"" help:"Give up deleted files for good."`
}

type trashListCmd struct {
	Volume string `help:"Volume." short:"V"`
	Limit  int    `help:"Most entries to list." default:"1000"`
}

func (c *trashListCmd) Run(g *globals) error {
	l, err := client.Call[api.Trash](g.ctx, g.client(), "GET", "/v1/admin/trash", api.TrashList{Volume: c.Volume, Limit: c.Limit})
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) {
		var t [][]any
		for _, e := range l.Entries {
			t = append(t, []any{e.Ino, e.Type, size(e.Size), when(e.Deleted), when(e.Expires), e.Path})
		}
		rows(w, []any{"INODE", "TYPE", "SIZE", "DELETED", "EXPIRES", "PATH"}, t)
		if l.More {
			fmt.Fprintln(w, "there is more: raise --limit")
		}
	})
}

type trashRestoreCmd struct {
	Ino    uint64 `arg:"" help:"Inode number, as listed."`
	To     string `arg:"" optional:"" help:"Path to restore to (default: where it was)."`
	Volume string `help:"Volume." short:"V"`
}

func (c *trashRestoreCmd) Run(g *globals) error {
	p, err := client.Call[api.PathReq](g.ctx, g.client(), "POST", "/v1/admin/trash/restore", api.TrashRestore{Volume: c.Volume, Ino: c.Ino, To: c.To})
	if err != nil {
		return err
	}
	return g.out.done(p, "restored %s", p.Path)
}

type trashEmptyCmd struct {
	Volume    string        `help:"Volume." short:"V"`
	OlderThan time.Duration `help:"Only what was deleted longer ago than this."`
	Ino       uint64        `help:"Only this inode."`
}

func (c *trashEmptyCmd) Run(g *globals) error {
	req := api.TrashEmpty{Volume: c.Volume, Ino: c.Ino}
	if c.OlderThan > 0 {
		req.Before = time.Now().Add(-c.OlderThan)
	}
	n, err := client.Call[api.Count](g.ctx, g.client(), "POST", "/v1/admin/trash/empty", req)
	if err != nil {
		return err
	}
	return g.out.done(n, "gave up %d entries", n.Count)
}
