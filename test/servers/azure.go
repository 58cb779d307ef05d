package servers

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
)

// AzureServer is a running server that speaks the protocol of Azure Blob
// Storage.
type AzureServer struct {
	Endpoint         string // URL of the account's blob service
	Account, Key     string
	ConnectionString string
}

// Azure starts Azurite in memory, with the account that is built into it.
func Azure(t testing.TB) *AzureServer {
	t.Helper()
	script := find(t, filepath.Join("azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js"))
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node to run Azurite")
	}
	port := freePort(t)
	s := &AzureServer{
		Endpoint: "http://" + net.JoinHostPort(host(), port) + "/devstoreaccount1", Account: "devstoreaccount1",
		// The well-known key of Azurite and the emulator before it.
		Key: "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
	}
	s.ConnectionString = fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s;", s.Account, s.Key, s.Endpoint)
	start(t, port, node, script, "--blobHost", host(), "--blobPort", port,
		"--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry")
	return s
}

// Container makes an empty container.
func (s *AzureServer) Container(t testing.TB, name string) {
	t.Helper()
	c, err := azblob.NewClientFromConnectionString(s.ConnectionString, nil)
	if err == nil {
		_, err = c.CreateContainer(t.Context(), name, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}
