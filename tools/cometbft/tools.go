//go:build tools

// Package tools names the programs that this module locks, so that `go mod tidy` keeps what they need.
package tools

import (
	_ "github.com/cometbft/cometbft/abci/cmd/abci-cli"
	_ "github.com/cometbft/cometbft/cmd/cometbft"
)
