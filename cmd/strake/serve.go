package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/daemon"
)

// configFlags choose the configuration of commands that open a data directory.
type configFlags struct {
	Config       string `help:"Configuration file (TOML)." type:"path" placeholder:"FILE"`
	PasswordFile string `help:"File that holds the password (default: the generated one in the data directory)." type:"path" placeholder:"FILE" env:"STRAKE_PASSWORD_FILE"`
	Bucket       string `help:"Keep everything in this bucket ('s3://BUCKET/PREFIX'); --data is then only a cache." placeholder:"URL"`
	Lease        bool   `name:"single-writer-lease" help:"Let a lease stand in for a bucket that does not keep conditions: weaker, see bucket.md."`
}

// load reads the configuration; flags win over the file.
func (f configFlags) load(g *globals) (config.Config, error) {
	cfg, err := config.Load(f.Config, os.Getenv)
	if err != nil {
		return cfg, err
	}
	if cfg.Data.Dir == "" || g.Data != defaultData() {
		cfg.Data.Dir = g.Data
	}
	if f.Bucket != "" {
		cfg.Engine.Kind, cfg.Engine.URL = "bucket", f.Bucket
	}
	cfg.Engine.Lease = cfg.Engine.Lease || f.Lease
	if f.PasswordFile != "" {
		cfg.Data.PasswordFile = f.PasswordFile
	}
	if cfg.Data.Dir, err = filepath.Abs(cfg.Data.Dir); err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

type serveCmd struct {
	configFlags
	Mount      string `help:"Directory to mount the default volume at." type:"path" placeholder:"DIR"`
	Volume     string `help:"Volume to mount (default: the default one)."`
	Listen     string `help:"Address of the REST door ('off': only the socket in the data directory)." placeholder:"HOST:PORT"`
	ReadOnly   bool   `help:"Only follow what another server writes to the bucket."`
	AllowOther bool   `help:"Let other users into the mount." negatable:"" default:"true"`
}

func (c *serveCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	cfg.Engine.ReadOnly = cfg.Engine.ReadOnly || c.ReadOnly
	if c.Mount != "" {
		cfg.Fuse.Mount = c.Mount
	}
	if c.Volume != "" {
		cfg.Fuse.Volume = c.Volume
	}
	if c.Listen != "" {
		cfg.Rest.Listen = c.Listen
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	return daemon.Serve(g.ctx, secondSignal(), cfg, os.Stdout)
}

// secondSignal is closed when SIGINT or SIGTERM has come twice, counted from now.
// After that they end the process as they do any.
func secondSignal() <-chan struct{} {
	signals, second := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		<-signals
		signal.Stop(signals)
		close(second)
	}()
	return second
}

type initCmd struct {
	configFlags
	Unencrypted bool `help:"Keep the default volume unencrypted."`
}

func (c *initCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	if c.Unencrypted {
		cfg.Volume.Cipher = "none"
	}
	if err := daemon.Init(g.ctx, cfg, os.Stdout); err != nil {
		return err
	}
	return g.out.done(map[string]string{"data": cfg.Data.Dir}, "made %s; start it with: strake serve --data %s", cfg.Data.Dir, cfg.Data.Dir)
}

type mountCmd struct {
	Dir    string `arg:"" help:"Directory to mount at." type:"path"`
	Volume string `help:"Volume (default: the default one)." short:"V"`
}

func (c *mountCmd) Run(g *globals) error {
	_, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/mount", api.MountReq{Volume: c.Volume, Dir: c.Dir, AllowOther: true})
	if err != nil {
		return err
	}
	return g.out.done(map[string]string{"mount": c.Dir}, "mounted at %s", c.Dir)
}

type umountCmd struct {
	Dir string `arg:"" help:"Directory it is mounted at." type:"path"`
}

func (c *umountCmd) Run(g *globals) error {
	_, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/umount", api.MountReq{Dir: c.Dir})
	if err != nil {
		return err
	}
	return g.out.done(map[string]string{"mount": c.Dir}, "unmounted %s", c.Dir)
}

type versionCmd struct{}

func (c *versionCmd) Run(g *globals) error {
	return g.out.value(map[string]string{"version": daemon.Version()}, func(w writer) { fmt.Fprintln(w, "strake", daemon.Version()) })
}
