// SPDX-License-Identifier: Apache-2.0

// The example provider of github.com/zitadel/oidc on a loopback port, with one public client that may use the device
// grant: the example registers none. Prints its issuer once it listens.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const clientID = "veilnet-cli"

// publicClient has no secret and may use code with PKCE and device code.
type publicClient struct{ op.Client }

func (publicClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeDeviceCode}
}

// users also finds a user by name: the example's device page puts the name where its storage looks for an id.
type users struct{ storage.UserStore }

func (u users) GetUserByID(id string) *storage.User {
	if user := u.UserStore.GetUserByID(id); user != nil {
		return user
	}
	return u.GetUserByUsername(id)
}

type store struct{ *storage.Storage }

func (s store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	client, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil || id != clientID {
		return client, err
	}
	return publicClient{client}, nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	issuer := fmt.Sprintf("http://localhost:%d/", listener.Addr().(*net.TCPAddr).Port)
	storage.RegisterClients(storage.NativeClient(clientID, "http://127.0.0.1/callback"))
	stores := store{storage.NewStorage(users{storage.NewUserStore(issuer)})}
	router := exampleop.SetupServer(issuer, stores, slog.New(slog.NewTextHandler(io.Discard, nil)), false)
	fmt.Println(issuer)
	_ = http.Serve(listener, router)
}
