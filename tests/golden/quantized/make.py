"""What bitsandbytes makes of weights on the processor: codes, scales, scales that are quantized too, and rows in 8 bits. From this folder:
PYTHON make.py > bitsandbytes.json (bitsandbytes 0.50.2, torch 2.13.0)"""
import base64
import hashlib
import json

import bitsandbytes.functional as F
import numpy as np
import torch

SIZES = [1, 7, 64, 129, 1000, 64 * 70 + 33, 64 * 600]


def weights(count, seed):
    """Sums of four uniform numbers, which float32 holds exactly, in runs of 1,000 whose scale grows tenfold; then a block of zeros."""
    state, values = seed, []
    for i in range(count):
        total = 0
        for _ in range(4):
            state = (state * 1664525 + 1013904223) % 2**32
            total += (state >> 8) / 2**24 - 0.5
        values.append(total * 10 ** (i // 1000 % 4) / 1000)
    values = np.array(values, np.float64).astype(np.float32)
    values[128:192] = 0
    return torch.from_numpy(values)


def bytes_of(tensor):
    data = tensor.contiguous().numpy().tobytes()
    text = base64.b64encode(data).decode()
    return text if len(text) < 500 else "sha256 " + hashlib.sha256(data).hexdigest()


found = {"dynamic_map": bytes_of(F.create_dynamic_map()), "four_bits": [], "rows": []}
for kind in ("nf4", "fp4"):
    for count in SIZES:
        codes, state = F.quantize_4bit(weights(count, count), quant_type=kind)
        case = {
            "type": kind,
            "count": count,
            "codes": bytes_of(codes),
            "absmax": bytes_of(state.absmax),
            # Without the sign of a zero.
            "values": bytes_of(F.dequantize_4bit(codes, state) + 0.0),
        }
        _, double = F.quantize_4bit(weights(count, count), quant_type=kind, compress_statistics=True)
        case["double"] = {
            "offset": double.offset.item(),
            "codes": bytes_of(double.absmax),
            "absmax": bytes_of(double.state2.absmax),
            "scales": bytes_of(F.dequantize_blockwise(double.absmax, double.state2) + double.offset),
        }
        found["four_bits"].append(case)
for rows, columns in [(1, 4), (5, 36), (40, 100)]:
    # The CUDA kernel asks for float16.
    values = weights(rows * columns, columns).view(rows, columns)
    codes, absmax, _ = F.int8_vectorwise_quant(values)
    found["rows"].append({
        "rows": rows,
        "columns": columns,
        "codes": bytes_of(codes),
        "absmax": bytes_of(absmax),
        "values": bytes_of(F.int8_vectorwise_dequant(codes, absmax) + 0.0),
    })
print(json.dumps(found, indent=1))
