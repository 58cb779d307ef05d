package main

import (
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type volumeCmd struct {
	Create volumeCreateCmd `cmd:"" help:"Make a volume."`
	List   volumeListCmd   `cmd:"" help:"List volumes."`
	Show   volumeShowCmd   `cmd:"" help:"Show one volume."`
	Set    volumeSetCmd    `cmd:"" help:"Change a volume's name, policy or quota."`
	Delete volumeDeleteCmd `cmd:"" help:"Delete a volume with everything in it."`
}

type volumeCreateCmd struct {
	Name        string   `arg:"" help:"Name of the volume."`
	Cipher      string   `help:"aes-256-gcm, xchacha20-poly1305 or none." default:"aes-256-gcm" enum:"aes-256-gcm,xchacha20-poly1305,none"`
	Policy      string   `help:"Policy, such as 'copies=hot:2 compression=zstd-3'."`
	QuotaBytes  sizeFlag `help:"Most bytes the volume may hold (0: no bound)." placeholder:"SIZE"`
	QuotaInodes int64    `help:"Most inodes the volume may hold (0: no bound)."`
}

func (c *volumeCreateCmd) Run(g *globals) error {
	v, err := client.Call[api.Volume](g.ctx, g.client(), "POST", "/v1/admin/volumes", api.VolumeCreate{
		Name: c.Name, Cipher: c.Cipher, Policy: c.Policy, QuotaBytes: int64(c.QuotaBytes), QuotaInodes: c.QuotaInodes,
	})
	if err != nil {
		return err
	}
	return g.out.done(v, "made volume %s", v.Name)
}

type volumeListCmd struct{}

func (c *volumeListCmd) Run(g *globals) error {
	l, err := client.Call[api.Volumes](g.ctx, g.client(), "GET", "/v1/admin/volumes", nil)
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) { printVolumes(w, l.Volumes) })
}

func printVolumes(w io.Writer, vs []api.Volume) {
	var t [][]any
	for _, v := range vs {
		quota := "-"
		if v.QuotaBytes > 0 {
			quota = size(v.QuotaBytes)
		}
		t = append(t, []any{v.Name, size(v.Bytes), v.Inodes, quota, v.Cipher, v.Policy})
	}
	rows(w, []any{"VOLUME", "USED", "INODES", "QUOTA", "CIPHER", "POLICY"}, t)
}

type volumeShowCmd struct {
	Name string `arg:"" help:"Name of the volume."`
}

func (c *volumeShowCmd) Run(g *globals) error {
	v, err := client.Call[api.Volume](g.ctx, g.client(), "GET", "/v1/admin/volumes/show", api.Named{Name: c.Name})
	if err != nil {
		return err
	}
	return g.out.value(v, func(w io.Writer) {
		fmt.Fprintf(w, "name        %s\nid          %d\ncreated     %s\ncipher      %s (key version %d)\npolicy      %s\nused        %s in %d inodes\n",
			v.Name, v.ID, when(v.Created), v.Cipher, v.KeyVersion, v.Policy, size(v.Bytes), v.Inodes)
		if v.QuotaBytes > 0 || v.QuotaInodes > 0 {
			fmt.Fprintf(w, "quota       %s, %d inodes\n", size(v.QuotaBytes), v.QuotaInodes)
		}
	})
}

type volumeSetCmd struct {
	Name        string    `arg:"" help:"Name of the volume."`
	Rename      *string   `help:"New name."`
	Policy      *string   `help:"New policy; what it does not name stays as it is."`
	QuotaBytes  *sizeFlag `help:"New bound of bytes (0: none)." placeholder:"SIZE"`
	QuotaInodes *int64    `help:"New bound of inodes (0: none)."`
}

func (c *volumeSetCmd) Run(g *globals) error {
	v, err := client.Call[api.Volume](g.ctx, g.client(), "POST", "/v1/admin/volumes/set", api.VolumeSet{
		Name: c.Name, Rename: c.Rename, Policy: c.Policy, QuotaBytes: (*int64)(c.QuotaBytes), QuotaInodes: c.QuotaInodes,
	})
	if err != nil {
		return err
	}
	return g.out.done(v, "changed volume %s", v.Name)
}

type volumeDeleteCmd struct {
	Name    string `arg:"" help:"Name of the volume."`
	Confirm string `help:"The name once more: there is no way back." required:"" placeholder:"NAME"`
}

func (c *volumeDeleteCmd) Run(g *globals) error {
	_, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/volumes/delete", api.VolumeDelete{Name: c.Name, Confirm: c.Confirm})
	if err != nil {
		return err
	}
	return g.out.done(api.Named{Name: c.Name}, "volume %s is being deleted", c.Name)
}
