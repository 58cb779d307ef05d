// Command strake is the one binary: server, mounts, and the tools for both.
//
// It owns: the command line. Each subcommand is a file: flags in, a call of
// daemon or client, a print. It must hold no logic of its own.
//
// Exit codes: 0 done; 1 it failed; 2 the command line or configuration is
// wrong; 3 fsck found problems; 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
)

// Exit codes beyond 0 and 1.
const (
	exitUsage       = 2
	exitProblems    = 3
	exitInterrupted = 130
)

// errProblems ends a command whose report already said what is wrong.
var errProblems = errors.New("problems were found")

// globals are the flags that every command takes.
type globals struct {
	Data   string `help:"Data directory of the server." type:"path" env:"STRAKE_DATA" default:"${data}"`
	Server string `help:"Talk to the server at this address instead of the one on --data." env:"STRAKE_SERVER" placeholder:"URL"`
	Token  string `help:"Bearer token for --server." env:"STRAKE_TOKEN" placeholder:"TOKEN"`
	CA     string `name:"ca" help:"PEM certificates to trust besides the system's, for a --server with https://." type:"path" env:"STRAKE_CA" placeholder:"FILE"`
	JSON   bool   `name:"json" help:"Print JSON for programs instead of text for people."`

	ctx context.Context
	out *printer
	at  *string // the address, once it was looked for
}

// client is the server this invocation talks to.
func (g *globals) client() *client.Client {
	c := client.Dial(g.address(), g.Token, g.Data)
	if g.CA != "" && g.address() != "" {
		c.Trust(g.CA)
	}
	return c
}

type cli struct {
	globals

	Init   initCmd   `cmd:"" group:"server" help:"Make a data directory without starting a server."`
	Serve  serveCmd  `cmd:"" group:"server" help:"Run the server in the foreground."`
	Mount  mountCmd  `cmd:"" group:"server" help:"Have the running server mount a volume."`
	Umount umountCmd `cmd:"" group:"server" help:"Take a mount of the running server down."`
	Status statusCmd `cmd:"" group:"server" help:"Show how the server is."`

	Discover discoverCmd `cmd:"" group:"server" help:"Find servers that announce themselves in the local network."`

	Ls      lsCmd      `cmd:"" group:"files" help:"List a directory."`
	Cat     catCmd     `cmd:"" group:"files" help:"Print a file."`
	Put     putCmd     `cmd:"" group:"files" help:"Copy local files in."`
	Get     getCmd     `cmd:"" group:"files" help:"Copy a file out."`
	Migrate migrateCmd `cmd:"" group:"files" help:"Copy local trees in as they are, again and again until all is there."`
	Sync    syncCmd    `cmd:"" group:"files" help:"Make a directory of the volume like a local one, or the other way round."`
	Rm      rmCmd      `cmd:"" group:"files" help:"Remove files and directories (to the trash)."`
	Stat    statCmd    `cmd:"" group:"files" help:"Show the attributes of a path."`
	Du      duCmd      `cmd:"" group:"files" help:"Show what a subtree holds."`
	Info    infoCmd    `cmd:"" group:"files" help:"Show what a path is and which policy holds for it."`
	Explain explainCmd `cmd:"" group:"files" help:"Show where every byte of a file lies."`

	Volume     volumeCmd     `cmd:"" group:"storage" help:"Volumes."`
	Drive      driveCmd      `cmd:"" group:"storage" help:"Drives."`
	Durability durabilityCmd `cmd:"" group:"storage" help:"Compute how likely data is to be lost within a year."`
	Pending    pendingCmd    `cmd:"" group:"storage" help:"Copies that are still to be written."`
	Policy     policyCmd     `cmd:"" group:"storage" help:"Policies of volumes, directories and files."`
	Quota      quotaCmd      `cmd:"" group:"storage" help:"Quotas of directories."`
	Warmup     warmupCmd     `cmd:"" group:"storage" help:"Bring everything below a path to its hottest tier or the disk cache."`
	Evict      evictCmd      `cmd:"" group:"storage" help:"Take evictable copies from a tier, of a path or all."`
	Trash      trashCmd      `cmd:"" group:"storage" help:"Deleted files."`

	Snapshot  snapshotCmd  `cmd:"" group:"storage" help:"Snapshots of volumes."`
	Clone     cloneCmd     `cmd:"" group:"storage" help:"Copy a file or directory at once, by sharing its content."`
	Retention retentionCmd `cmd:"" group:"storage" help:"Files that nobody can change or delete for a time."`

	Key   keyCmd   `cmd:"" group:"safety" help:"Keys and the password."`
	Token tokenCmd `cmd:"" name:"token" group:"safety" help:"Bearer tokens of the REST door."`
	Job   jobCmd   `cmd:"" group:"safety" help:"Long work of upkeep: scrub, repair, evacuate, rebalance, relayout and more."`
	GC    gcCmd    `cmd:"" name:"gc" group:"safety" help:"Pack, compact and release what nothing needs."`
	Fsck  fsckCmd  `cmd:"" group:"safety" help:"Check every promise; works without a server."`
	Meta  metaCmd  `cmd:"" group:"safety" help:"Dump, load and restore the metadata."`
	Debug debugCmd `cmd:"" group:"safety" help:"Look into the formats on disk."`
	Bench benchCmd `cmd:"" group:"safety" help:"Measure this installation."`

	Version    versionCmd    `cmd:"" group:"other" help:"Print the version."`
	Completion completionCmd `cmd:"" group:"other" help:"Print a completion script for a shell."`
	Docs       docsCmd       `cmd:"" group:"other" hidden:"" help:"Write the generated pages of the documentation."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process, unless a command takes it
	var c cli
	parser, err := newParser(&c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "strake:", err)
		return exitUsage
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "strake:", err)
		return exitUsage
	}
	c.ctx, c.out = ctx, &printer{w: os.Stdout, json: c.JSON}
	return exitCode(ctx, k.Run(&c.globals))
}

func newParser(c *cli) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("strake"),
		kong.Description("A distributed, tiered, self-healing filesystem."),
		kong.Vars{"data": defaultData()},
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "server", Title: "Server:"},
			{Key: "files", Title: "Files:"},
			{Key: "storage", Title: "Storage:"},
			{Key: "safety", Title: "Safety and upkeep:"},
			{Key: "other", Title: "Other:"},
		}),
	)
}

func exitCode(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errProblems):
		return exitProblems
	case ctx.Err() != nil && fsapi.KindOf(err) == fsapi.Interrupted:
		fmt.Fprintln(os.Stderr, "strake: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(os.Stderr, "strake:", err)
	if errors.Is(err, fsapi.Invalid) {
		return exitUsage
	}
	return 1
}

// defaultData is $XDG_DATA_HOME/strake, for root /var/lib/strake.
func defaultData() string {
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "strake")
	}
	if os.Getuid() == 0 {
		return "/var/lib/strake"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "strake-data"
	}
	return filepath.Join(home, ".local", "share", "strake")
}
