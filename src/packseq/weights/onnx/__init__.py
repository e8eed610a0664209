"""ONNX models: their recurrent nodes, and what is computed around them."""
